"""DATA.TARGET: the labels that a classifier predicts."""

from collections.abc import Mapping, Sequence

from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import CLASS_NAMES, LABEL_SETS, NIH_LABELS, column_of

ABNORMAL = "abnormal"
#: Named sets of labels.
TARGETS: Mapping[str, tuple[str, ...]] = {
    ABNORMAL: (ABNORMAL,), "vindr15": CLASS_NAMES, "nih14": NIH_LABELS}


def labels_of_target(target: str | Sequence[str]) -> tuple[str, ...]:
    """The labels of DATA.TARGET, in the order of the model's outputs.

    Args:
        target: a key of :data:`TARGETS`; the name of a shipped label set, for its classes; or columns of the
            label table, as a list or with commas between.

    Raises:
        InputError: a label is empty, or two share the column of their probability.
    """
    if isinstance(target, str) and target in TARGETS:
        return TARGETS[target]
    if isinstance(target, str) and target in LABEL_SETS:
        return LABEL_SETS[target].classes
    names = tuple(name.strip() for name in (target.split(",") if isinstance(target, str) else target))
    if not all(names) or len({column_of(name) for name in names}) < len(names):
        raise InputError(f"DATA.TARGET is {target!r}, expected {', '.join(TARGETS)}, or labels of the table "
                         "with commas between, each once")
    return names
