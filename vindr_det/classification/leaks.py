"""Leaks between tables: images or patients that two of them share, as a report, and the remedy."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import make_folder
from vindr_det.tables import header_of, read_csv, whole_number, write_csv

log = logging.getLogger(__name__)


class Images(Protocol):
    """N images and their patients, such as a :class:`vindr_det.classification.label_table.LabelTable`."""

    @property
    def image_ids(self) -> NDArray[np.str_]:
        """(N,) file names without suffix."""

    @property
    def groups(self) -> NDArray[np.str_]:
        """(N,) patients, or image ids where they are unknown."""

    @property
    def group_kind(self) -> str:
        """``patient`` or ``image``, what ``groups`` holds."""

    def __len__(self) -> int: ...


AnyImages = TypeVar("AnyImages", bound=Images)


@dataclass(frozen=True)
class Overlap:
    """What two parts share.

    Attributes:
        first: name of a part.
        second: name of the other.
        images: in both.
        patients: in both; empty where a part does not know them.
    """

    first: str
    second: str
    images: Sequence[str]
    patients: Sequence[str]

    def __str__(self) -> str:
        """Such as ``image b is in fold 1 and in DATA.TEST``."""
        kind, members = ("image", self.images) if self.images else ("patient", self.patients)
        return f"{kind} {members[0]} is in {self.first} and in {self.second}"


def find_overlaps(parts: Mapping[str, Images]) -> list[Overlap]:
    """Every pair of parts that share an image or, as far as both know them, a patient."""
    images = {name: dict(zip(_images(part), part.image_ids.tolist(), strict=True))
              for name, part in parts.items()}
    patients = {name: set(_patients(part)) for name, part in parts.items()}
    overlaps = [Overlap(first, second,
                        sorted(images[first][image] for image in images[first].keys() & images[second]),
                        sorted(patients[first] & patients[second]))
                for first, second in combinations(parts, 2)]
    return [overlap for overlap in overlaps if overlap.images or overlap.patients]


def report(overlaps: Sequence[Overlap]) -> str:
    """A table of the overlaps: their numbers of patients and images, and the first three of each."""
    from tabulate import tabulate

    rows = [[overlap.first, overlap.second, len(overlap.patients), len(overlap.images),
             ", ".join(overlap.patients[:3]), ", ".join(overlap.images[:3])] for overlap in overlaps]
    return tabulate(rows, ["in", "and in", "patients", "images", "first patients", "first images"],
                    disable_numparse=True)


def refuse(overlaps: Sequence[Overlap], remedy: str) -> None:
    """Refuse overlaps.

    Args:
        overlaps: of :func:`find_overlaps`.
        remedy: what the user can do.

    Raises:
        InputError: names the first image or patient, and the two parts.
    """
    if overlaps:
        pairs = f"{len(overlaps)} pair{'s' * (len(overlaps) > 1)} of parts"
        raise InputError(f"leak: {overlaps[0]} ({pairs} overlap); {remedy}")


def warn_of_unknown_patients(parts: Mapping[str, Images]) -> None:
    """Tell which parts do not name patients, so that a leak of patients cannot be seen."""
    unknown = [name for name, part in parts.items() if part.group_kind != "patient"]
    if unknown:
        log.warning("%s %s no column of patients (patient, patient_id): a patient in two parts, such as "
                    "training and test, would not be seen", " and ".join(unknown),
                    "has" if len(unknown) == 1 else "have")
    for first, second in combinations(parts, 2):
        patients = _patients(parts[first]), _patients(parts[second])
        if all(patients) and set(map(_kind, patients[0])).isdisjoint(map(_kind, patients[1])):
            log.warning("%s and %s name patients otherwise, such as %s and %s: a patient in both would not "
                        "be seen", first, second, patients[0][0], patients[1][0])


def _kind(patient: str) -> str:
    return "number" if patient.isdigit() else "word" if patient.isalpha() else "mixed"


def kept_rows(parts: Mapping[str, Images]) -> dict[str, NDArray[np.bool_]]:
    """Rows to keep so that no two parts share an image or a patient; the last part that has one keeps it.

    Args:
        parts: from what is trained on to what is tested on.

    Returns:
        Part -> (N,) mask.
    """
    taken = np.zeros(0, dtype=str)
    kept: dict[str, NDArray[np.bool_]] = {}
    for name, part in reversed(list(parts.items())):
        images = np.char.add("image ", np.array(_images(part), dtype=str))
        members = np.column_stack([images, _patients_of_rows(part)])
        kept[name] = np.asarray(~np.isin(members, taken).any(axis=1))
        taken = np.concatenate([taken, np.setdiff1d(members[kept[name]], [""])])
    return {name: kept[name] for name in parts}


def write_without(tables: Mapping[str, Images], out: Path) -> None:
    """Write tables without the rows that :func:`kept_rows` leaves out, under their names.

    Args:
        tables: path -> its images, from what is trained on to what is tested on.
        out: folder; made if missing.

    Raises:
        InputError: two tables have the same name, or a file to write is one of the tables.
    """
    targets = {path: out / Path(path).name.removesuffix(".gz").removesuffix(".zip") for path in tables}
    for path, target in targets.items():
        if target.resolve() in {Path(other).resolve() for other in tables}:
            raise InputError(f"--out {out}: {target} is one of the tables, expected another folder")
        if list(targets.values()).count(target) > 1:
            raise InputError(f"--out {out}: {path} is not the only table of this name, expected others")
    kept = kept_rows(tables)
    log_dropped(kept)
    make_folder(out)
    for path, target in targets.items():
        write_csv(target, read_csv(path, dtype=str)[kept[path]].set_axis(header_of(path), axis=1))


def _patients_of_rows(part: Images) -> NDArray[np.str_]:
    """(N,) such as ``patient 5``; empty where they are unknown."""
    patients = [f"patient {patient}" for patient in _patients(part)]
    return np.array(patients or [""] * len(part), dtype=str)


def log_dropped(kept: Mapping[str, NDArray[np.bool_]]) -> None:
    """Tell how many images of which part are not kept."""
    for name, keep in kept.items():
        if not keep.all():
            log.warning("%s: %d of %d images dropped, they or their patients are in a later table", name,
                        (~keep).sum(), len(keep))


def _images(part: Images) -> list[str]:
    """(N,) images, in a spelling that tables share: without folders of Windows, whatever the case."""
    return [image.rstrip("\\").rpartition("\\")[-1].casefold() for image in part.image_ids.tolist()]


def _patients(part: Images) -> list[str]:
    """(N,) patients, in a spelling that tables share: one may write 00000005, another 5 or 5.0."""
    if part.group_kind != "patient":
        return []
    groups = [whole_number(group) for group in part.groups.tolist()]
    return [group.lstrip("0") or "0" if group.isdigit() else group for group in groups]
