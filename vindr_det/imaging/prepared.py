"""What a folder that prepare_images.py made tells of its images, beside their PNGs."""

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

#: The settings of a preparation; a row per input; the originals' sizes; the rows while it runs.
SETTINGS, REPORT, SIZES, LOG = "prepare.json", "qc.csv", "meta.csv", "qc.partial.jsonl"


@dataclass(frozen=True)
class Prepared:
    """What ``qc.csv`` of a prepared folder knows of an image that its PNG does not.

    Attributes:
        status: of the preparation.
        reason: likewise.
        uids: of the DICOM file that the image was.
        size: (height, width) of the original; None where it is not known.
    """

    status: str
    reason: str
    uids: Mapping[str, str]
    size: tuple[int, int] | None = None


#: The images of one folder: file name -> what is known of it.
PreparedFolder = Mapping[str, Prepared]


def require_finished(folder: Path) -> None:
    """Refuse a folder whose preparation was killed: images and the originals' sizes are missing there.

    Raises:
        InputError: the log of a preparation is there, or its settings without its report.
    """
    log_left, begun, ended = (os.path.lexists(folder / name) for name in (LOG, SETTINGS, REPORT))
    if log_left or (begun and not ended):
        what = LOG if log_left else f"no {REPORT}"
        raise InputError(f"{folder}: its preparation is not finished ({what}); run prepare_images.py again "
                         "with --resume")


def read_prepared(folders: Iterable[Path]) -> dict[Path, PreparedFolder]:
    """What the ``qc.csv`` of each folder that has one tells; one that is damaged is told in the log."""
    return {folder: _read(folder / REPORT) for folder in folders if os.path.lexists(folder / REPORT)}


def failed_in(tables: Mapping[Path, PreparedFolder]) -> dict[Path, str]:
    """The picture that each image which could not be prepared would have had -> why it has none."""
    return {folder / name: f"was not prepared: {row.reason}"
            for folder, rows in tables.items() for name, row in rows.items() if row.status == FAILED}


def _read(path: Path) -> PreparedFolder:
    try:
        rows = read_own_csv(path, ["image_id", "status"])
    except (InputError, OSError) as error:
        log.warning("what preparation said of the images is not known: %s", error)
        return {}
    return {f"{row['image_id']}.png": Prepared(row["status"], row.get("reason", ""),
                                               {name: row.get(name, "") for name in UIDS}, _size(row))
            for row in rows}


def _size(row: Mapping[str, str]) -> tuple[int, int] | None:
    height, width = (row.get(name, "") for name in ("dim0", "dim1"))
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else None
