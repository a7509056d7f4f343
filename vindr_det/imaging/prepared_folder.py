"""Reading the tables that vindr-det prepare leaves beside its PNGs: reports, original sizes, completeness."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vindr_det.exceptions import InputError
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.imaging.status import FAILED
from vindr_det.tables import read_own_csv

log = logging.getLogger(__name__)

#: Settings of a preparation; one row per input; the originals' sizes; the rows so far while it runs.
SETTINGS, REPORT, SIZES, LOG = "prepare.json", "qc.csv", "meta.csv", "qc.partial.jsonl"


@dataclass(frozen=True)
class Prepared:
    """What the ``qc.csv`` of a prepared folder has of an image and its PNG has not.

    Attributes:
        status: of the preparation.
        reason: why it is flagged or failed.
        uids: of the DICOM file that the image was.
        size: (height, width) of the original; None where it is not known.
    """

    status: str
    reason: str
    uids: Mapping[str, str]
    size: tuple[int, int] | None = None


#: The images of a folder: file name -> its row of ``qc.csv``.
PreparedFolder = Mapping[str, Prepared]


def require_finished(folder: Path) -> None:
    """Refuse a folder whose preparation was killed, where images and original sizes are missing.

    Raises:
        InputError: the log of a preparation is there, or its settings without its report.
    """
    log_left, begun, ended = (os.path.lexists(folder / name) for name in (LOG, SETTINGS, REPORT))
    if log_left or (begun and not ended):
        what = LOG if log_left else f"no {REPORT}"
        raise InputError(f"{folder}: its preparation is not finished ({what}); run vindr-det prepare again "
                         "with --resume")


def read_prepared(folders: Iterable[Path]) -> dict[Path, PreparedFolder]:
    """The ``qc.csv`` of each folder that has one; of a damaged one nothing but a warning."""
    return {folder: _read(folder / REPORT) for folder in folders if os.path.lexists(folder / REPORT)}


def failed_in(tables: Mapping[Path, PreparedFolder]) -> dict[Path, str]:
    """Path of the PNG that a failed image would have -> why there is none."""
    return {folder / name: f"was not prepared: {row.reason}"
            for folder, rows in tables.items() for name, row in rows.items() if row.status == FAILED}


def failed_images(*folders: str | Path) -> set[str]:
    """Ids of the images that could not be prepared, by the ``qc.csv`` of the folders that have one."""
    tables = [Path(folder) / REPORT for folder in folders]
    return {row["image_id"] for table in tables if table.is_file()
            for row in read_own_csv(table, []) if row.get("status") == FAILED and row.get("image_id")}


def _read(path: Path) -> PreparedFolder:
    try:
        rows = read_own_csv(path, ["image_id", "status"])
    except (InputError, OSError) as error:
        log.warning("the report of the preparation cannot be read: %s", error)
        return {}
    return {f"{row['image_id']}.png": Prepared(row["status"], row.get("reason", ""),
                                               {name: row.get(name, "") for name in UIDS}, _size(row))
            for row in rows}


def _size(row: Mapping[str, str]) -> tuple[int, int] | None:
    height, width = (row.get(name, "") for name in ("dim0", "dim1"))
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else None
