"""What the folds of a folder were made of, so that models of other labels or images are not mixed in."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from vindr_det.classification.label_table import LabelTable
from vindr_det.exceptions import InputError
from vindr_det.files import read_json, write_json

_FILE = "tables.json"


def digests(tables: Mapping[str, LabelTable]) -> dict[str, str]:
    """Path of a table -> SHA-256 of its images, labels, patients and folds, in their order."""
    return {path: _digest(table) for path, table in tables.items()}


def _digest(table: LabelTable) -> str:
    texts = "\n".join([*table.names, *table.image_ids.tolist(), *table.groups.tolist()])
    parts = (texts.encode(), table.targets.tobytes(), table.normal.tobytes(), table.folds.tobytes())
    known = b"" if table.known is None else table.known.tobytes()
    return hashlib.sha256(b"".join((*parts, known))).hexdigest()


def require_same(out: Path, folds: Iterable[int], made_of: Mapping[str, str]) -> None:
    """Hold folds that are there against the tables as they are now.

    Args:
        out: the folder.
        folds: of it; those of an earlier version, which did not store it, pass.
        made_of: of :func:`digests`.

    Raises:
        InputError: names the table that is another.
    """
    stored = _stored(out)
    for fold in folds:
        then = stored.get(str(fold), made_of)
        for path in dict.fromkeys([*made_of, *then]):
            if then.get(path) != made_of.get(path):
                raise InputError(f"{path}: fold{fold} was made with other images, labels, patients or folds, "
                                 f"or another order of them ({out / _FILE}); train it anew, or take another "
                                 "OUTPUT_DIR")


def store(out: Path, folds: Iterable[int], made_of: Mapping[str, str]) -> None:
    """Note it for folds that are about to be trained."""
    write_json(out / _FILE, _stored(out) | {str(fold): dict(made_of) for fold in folds})


def _stored(out: Path) -> dict[str, dict[str, str]]:
    path = out / _FILE
    data = read_json(path) if path.is_file() else {}
    if not isinstance(data, dict) or not all(isinstance(one, dict) for one in data.values()):
        raise InputError(f"{path}: expected what train_classifier.py wrote")
    return data
