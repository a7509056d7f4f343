"""What became of each input of a run: one row each, ``ok``, ``flagged`` or ``failed``, with the reason.

A prediction run leaves it beside what it was asked for, as ``S.status.csv`` beside ``S.csv``. An image that
failed was not read; nothing else that a run writes says anything about it, but for the row "no finding" that
Kaggle wants of every image in a submission.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.tables import read_own_csv

log = logging.getLogger(__name__)

#: ``flagged`` images were read, but something about them contradicts itself or is not as it should be.
OK, FLAGGED, FAILED = "ok", "flagged", "failed"
COLUMNS = ("image_id", "file", "status", "reason", *UIDS, "height", "width")
_MANY = 20


@dataclass(frozen=True)
class Status:
    """One input's row.

    Attributes:
        image_id: as in all tables of the run.
        file: its name below the folder.
        status: :data:`OK`, :data:`FLAGGED` or :data:`FAILED`.
        reason: what is wrong, in one line; empty if nothing is.
        uids: Study, Series and SOP instance UID; empty where the file does not tell.
        height: of the original, pixels; None where it is not known.
        width: likewise.
    """

    image_id: str
    file: str
    status: str = OK
    reason: str = ""
    uids: Mapping[str, str] = field(default_factory=dict)
    height: int | None = None
    width: int | None = None

    def row(self) -> list[object]:
        """In the order of :data:`COLUMNS`."""
        return [self.image_id, self.file, self.status, self.reason,
                *(self.uids.get(name, "") for name in UIDS), self.height, self.width]


def status_path(out: str | Path) -> Path:
    """``S.status.csv`` beside ``S.csv``."""
    return beside(out, "status")


def beside(out: str | Path, kind: str) -> Path:
    """``S.<kind>.csv`` for ``S.csv``: several runs can write into one folder."""
    out = Path(out)
    return out.with_name(f"{out.name.removesuffix('.gz').removesuffix('.csv')}.{kind}.csv")


def write_status(path: str | Path, statuses: Sequence[Status]) -> None:
    """Write the table, whole or not at all."""
    write_text(path, status_text(statuses))


def status_text(statuses: Sequence[Status]) -> str:
    """The table as CSV."""
    table = pd.DataFrame([status.row() for status in statuses], columns=list(COLUMNS))
    return table.astype({"height": "Int64", "width": "Int64"}).to_csv(index=False, lineterminator="\n")


def read_failed(out: str | Path) -> dict[str, Status]:
    """As :func:`read_statuses`, of the failed inputs alone."""
    return {image_id: read_status for image_id, read_status in read_statuses(out).items() if read_status.status == FAILED}


def read_statuses(out: str | Path) -> dict[str, Status]:
    """Image id -> status, of the run that wrote ``out``; none where it left no status table.

    Raises:
        InputError: the table is damaged.
    """
    path = status_path(out)
    if not path.is_file():
        return {}
    return {row["image_id"]: Status(row["image_id"], row.get("file", ""), row["status"], row["reason"],
                                    {name: row[name] for name in UIDS if row.get(name)},
                                    *(_whole(row.get(name, "")) for name in ("height", "width")))
            for row in read_own_csv(path, ["image_id", "status", "reason"])}


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def failed_images(*folders: str | Path) -> set[str]:
    """Images that a preparation could not read, by the ``qc.csv`` of its folders, where they have one."""
    tables = [Path(folder) / "qc.csv" for folder in folders]
    return {row["image_id"] for table in tables if table.is_file()
            for row in read_own_csv(table, []) if row.get("status") == FAILED and row.get("image_id")}


def summary(statuses: Sequence[Status]) -> str:
    """How many of each kind, and what is wrong with the first."""
    counts = {kind: sum(one.status == kind for one in statuses) for kind in (OK, FLAGGED, FAILED)}
    odd = sorted((status for status in statuses if status.status != OK), key=lambda one: one.status != FAILED)
    lines = [", ".join(f"{count} {kind}" for kind, count in counts.items())]
    lines += [f"{one.status}: {one.file}: {one.reason}" for one in odd[:_MANY]]
    return "\n".join(lines + [f"... and {len(odd) - _MANY} more"] * (len(odd) > _MANY))


def require_some_read(statuses: Sequence[Status], table: str | Path) -> None:
    """Raises:
        InputError: all inputs failed.
    """
    if all(status.status == FAILED for status in statuses):
        first = statuses[0]
        raise InputError(f"none of {len(statuses)} images can be read; the first: {first.file}: "
                         f"{first.reason}; see {table}")


def warn(statuses: Sequence[Status], table: str | Path) -> int:
    """Say on stderr what was not read or is odd; returns how many were not read."""
    failed, flagged = (sum(status.status == kind for status in statuses) for kind in (FAILED, FLAGGED))
    if flagged:
        log.warning("%d of %d images are flagged: look at them before you trust what is said of them; see %s",
                    flagged, len(statuses), table)
    if failed:
        log.warning("%d of %d images were NOT READ: nothing is known about them; see %s", failed,
                    len(statuses), table)
    return failed
