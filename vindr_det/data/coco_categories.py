"""The categories of a COCO file: which label set they are, and which of its class ids each has.

The label set is the one that ``info.label_set`` names; or else the shipped one with exactly these findings;
or else the categories themselves, in the order of their ids: a finding that no category names was not
annotated, and nothing says that it is absent. Findings of a named set without a category are unknown on all
images. Where nearly all of VinBigData's findings are there beside
another name, that name is taken for a slip of the pen, which is an error.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vindr_det.exceptions import InputError
from vindr_det.files import holds_json, read_json
from vindr_det.structures.label_sets import LABEL_SETS, VINBIGDATA, LabelSet

#: So many of VinBigData's 14 names are no chance.
_NEARLY = 10
_NO_FINDING_NAMES = ("no finding", "no findings")


def label_set_of_categories(path: str | Path, data: Mapping[str, Any]) -> LabelSet:
    """What the categories of a COCO dictionary mean.

    Raises:
        InputError: a blank name, or one that two categories have, whatever its case.
        KeyError: a category without id or name.
    """
    names = _names_by_id(path, data["categories"])
    info = data.get("info")
    named = str(info.get("label_set", "")) if isinstance(info, dict) else ""
    if named in LABEL_SETS:
        return LABEL_SETS[named]
    findings = [name for name in names.values() if not is_no_finding(name)]
    lower = _lower(findings)
    for label_set in LABEL_SETS.values():
        if lower == _lower(label_set.findings):
            return label_set
    own = LabelSet(named or Path(path).stem, tuple(
        name for _, name in sorted(names.items(), key=lambda item: _in_order(item[0]))
        if name in findings))
    known = len(lower & _lower(VINBIGDATA.findings))
    return VINBIGDATA if not named and _NEARLY <= known < len(lower) else own


def is_no_finding(name: str) -> bool:
    """Whether a category's name says that nothing was found."""
    return name.strip().casefold() in _NO_FINDING_NAMES


def _names_by_id(path: str | Path, categories: Iterable[Mapping[str, Any]]) -> dict[Any, str]:
    names, ids = {}, dict[str, Any]()
    for category in categories:
        number, name = category["id"], category["name"]
        if not isinstance(name, str | int | float) or isinstance(name, bool) or not str(name).strip():
            raise InputError(f"{path}: category {number} has the name {name!r}, expected a text")
        names[number] = str(name).strip()
        alike = " ".join(names[number].casefold().split())
        if ids.setdefault(alike, number) != number:
            raise InputError(f"{path}: categories {ids[alike]} and {number} are both {alike!r}, expected "
                             "each name once")
    return names


def _lower(names: Iterable[str]) -> set[str]:
    return {name.casefold() for name in names}


def _in_order(number: Any) -> tuple[bool, Any]:
    """Numbers before texts, which do not compare."""
    return (True, str(number)) if isinstance(number, str) else (False, number)


def class_ids_of(
    path: str | Path, categories: list[dict], label_set: LabelSet, repaired: Counter[str]
) -> dict[Any, int]:
    """Category id -> class id; that of "no finding" is -1 where the set has no such class.

    Raises:
        InputError: a category that the set lacks, or two of the same id.
    """
    labels = {}
    for category in categories:
        name = str(category["name"]).strip()
        label = label_set.id_of(name)
        if label is None and is_no_finding(name):
            label = -1
        if category["id"] in labels:
            raise InputError(f"{path}: two categories have the id {category['id']}, expected an id for each")
        if label is None:
            raise InputError(f"{path}: category {category['name']!r} is not one of the {len(label_set)} "
                             f"findings of {label_set.name}")
        labels[category["id"]] = label
        if 0 <= label < len(label_set) and category["id"] != label:
            repaired[f"category ids differ from {label_set.name}'s class ids for {{}} categories, matched by "
                     "name"] += 1
    return labels


def class_ids(path: str | Path) -> dict[Any, int] | None:
    """Category id of a COCO JSON -> class id, by name; None for a file that is no JSON or has no categories.

    Raises:
        InputError: an unknown category, or two of the same id.
    """
    return _of_categories(path, lambda data: class_ids_of(
        path, data["categories"], label_set_of_categories(path, data), Counter()))


def label_set_of_file(path: str | Path) -> LabelSet | None:
    """The label set of a COCO JSON's categories; None for a file that is no JSON or has no categories.

    Raises:
        InputError: an unknown category.
    """
    return _of_categories(path, lambda data: label_set_of_categories(path, data))


def _of_categories(path: str | Path, value_of: Callable[[dict], Any]) -> Any:
    data = read_json(path) if holds_json(path) else None
    if not isinstance(data, dict) or not data.get("categories"):
        return None
    try:
        return value_of(data)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a COCO file, expected categories with id and name "
                         f"({error!r})") from error
