"""The status table: one row per input of a run, ``ok``, ``flagged`` or ``failed``, with the reason.

A prediction run writes it beside its output, as ``S.status.csv`` beside ``S.csv``. An image that failed was
not read and is in no other table of the run, but for the row "no finding" that Kaggle wants of every image.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.tables import header_of, line_of, read_own_csv

log = logging.getLogger(__name__)

#: ``flagged`` images were read, but something about them is contradictory or unusual.
OK, FLAGGED, FAILED = "ok", "flagged", "failed"
COLUMNS = ("image_id", "file", "status", "reason", *UIDS, "height", "width")
_MANY = 20


@dataclass(frozen=True)
class Status:
    """The row of an input.

    Attributes:
        image_id: as in all tables of the run.
        file: its name below the folder.
        status: :data:`OK`, :data:`FLAGGED` or :data:`FAILED`.
        reason: what is wrong, in one line; empty if nothing is.
        uids: Study, Series and SOP instance UID; empty where the file has none.
        height: of the original, pixels; None where it is not known.
        width: of the original, pixels; None where it is not known.
    """

    image_id: str
    file: str
    status: str = OK
    reason: str = ""
    uids: Mapping[str, str] = field(default_factory=dict)
    height: int | None = None
    width: int | None = None

    def with_notice(self, notice: str) -> "Status":
        """Flagged by a caution about the models that predict it, if there is one; a failed input as it is."""
        if not notice or self.status == FAILED:
            return self
        return replace(self, status=FLAGGED, reason="; ".join(filter(None, (self.reason, notice))))

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
    stem = out.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".json")
    return out.with_name(f"{stem}.{kind}.csv")


def status_path_of(out: str | Path) -> Path:
    """The status table of the run that wrote ``out``, whether it is there or not.

    ``S.predictions.csv`` is of the run of ``S.csv``, unless it has a table of its own.
    """
    own, name = status_path(out), Path(out).name
    if own.is_file() or not name.removesuffix(".gz").endswith(".predictions.csv"):
        return own
    return status_path(Path(out).with_name(name.replace(".predictions.csv", ".csv")))


def write_status(path: str | Path, statuses: Sequence[Status]) -> None:
    """Write the table, whole or not at all."""
    write_text(path, status_text(statuses))


def status_text(statuses: Sequence[Status], header: bool = True) -> str:
    """The table as CSV, or its rows alone."""
    table = pd.DataFrame([status.row() for status in statuses], columns=list(COLUMNS))
    table = table.astype({"height": "Int64", "width": "Int64"})
    return table.to_csv(index=False, lineterminator="\n", header=header)


def read_failed(out: str | Path) -> dict[str, Status]:
    """As :func:`read_statuses`, of the failed inputs alone."""
    return {image_id: row for image_id, row in read_statuses(out).items() if row.status == FAILED}


def read_statuses(out: str | Path) -> dict[str, Status]:
    """Image id -> status, of the run that wrote ``out``; none where it left no status table.

    It is the table of :func:`status_path_of`; without one ``S.predictions.csv`` has each input's status.

    Raises:
        InputError: the table is damaged, has another status than these, or an image with two.
    """
    path = status_path_of(out)
    if not path.is_file():
        if not _has_status(Path(out)):
            return {}
        path = Path(out)
    statuses: dict[str, Status] = {}
    for row, values in enumerate(read_own_csv(path, ["image_id", "status", "reason"])):
        status = _status(values)
        if status.status not in (OK, FLAGGED, FAILED):
            raise InputError(f"{path}, row {line_of(path, row)}: status {status.status!r} of image "
                             f"{status.image_id}, expected {OK}, {FLAGGED} or {FAILED}")
        if statuses.setdefault(status.image_id, status) != status:
            raise InputError(f"{path}, row {line_of(path, row)}: image {status.image_id} is {status.status}, "
                             f"but {statuses[status.image_id].status} above, expected a row for each image")
    return statuses


def _status(row: Mapping[str, str]) -> Status:
    return Status(row["image_id"], row.get("file", ""), row["status"].strip(), row["reason"],
                  {name: row[name] for name in UIDS if row.get(name)},
                  *(_whole(row.get(name, "")) for name in ("height", "width")))


def _has_status(table: Path) -> bool:
    """Whether a table of boxes has its inputs' statuses."""
    is_table = table.is_file() and table.name.removesuffix(".gz").endswith(".csv")
    return is_table and {"image_id", "status", "reason"} <= set(header_of(table))


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def summary(statuses: Sequence[Status]) -> str:
    """Counts per status, and the reasons of the first inputs that are not ok."""
    counts = {kind: sum(row.status == kind for row in statuses) for kind in (OK, FLAGGED, FAILED)}
    odd = sorted((row for row in statuses if row.status != OK), key=lambda row: row.status != FAILED)
    lines = [", ".join(f"{count} {kind}" for kind, count in counts.items())]
    lines += [f"{row.status}: {row.file}: {row.reason}" for row in odd[:_MANY]]
    return "\n".join(lines + [f"... and {len(odd) - _MANY} more"] * (len(odd) > _MANY))


def require_some_read(statuses: Sequence[Status], table: str | Path) -> None:
    """Refuse a run whose inputs all failed.

    Raises:
        InputError: names the first of them.
    """
    if all(status.status == FAILED for status in statuses):
        first = statuses[0]
        raise InputError(f"none of {len(statuses)} images can be read; the first: {first.file}: "
                         f"{first.reason}; see {table}")


def warn(statuses: Sequence[Status], table: str | Path) -> int:
    """Warn of inputs that were flagged or not read; returns how many were not read."""
    failed, flagged = (sum(status.status == kind for status in statuses) for kind in (FAILED, FLAGGED))
    if flagged:
        log.warning("%d of %d images are flagged: look at them before you trust their predictions; see %s",
                    flagged, len(statuses), table)
    if failed:
        log.warning("%d of %d images were NOT READ: nothing is known about them; see %s", failed,
                    len(statuses), table)
    return failed
