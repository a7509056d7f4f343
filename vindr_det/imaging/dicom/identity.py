"""Study, series and instance UID of a DICOM file, by which a hospital finds the image."""

import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from vindr_det.files import is_dicom, opened
from vindr_det.imaging.dicom.source import deflated_header, read_meta

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def read_uids(path: Path, content: bytes | None = None) -> Mapping[str, str]:
    """:data:`UIDS` of a file, whatever its pixels are; empty where it has none.

    Pixels are not read, and a deflated file is inflated only as far as a header can reach.

    Args:
        path: the file.
        content: its bytes, as of :func:`vindr_det.files.opened`.
    """
    if not is_dicom(path, content):
        return dict.fromkeys(UIDS, "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UIDs that break the rules are kept as they are
        with opened(path, content) as file:
            return _read(file)


def _read(file: BinaryIO) -> dict[str, str]:
    meta = read_meta(file)
    elements = _elements(file, meta)
    uids = {name: str(elements.get(name, "") or "") for name in UIDS}
    uids["SOPInstanceUID"] = uids["SOPInstanceUID"] or str(meta.get("MediaStorageSOPInstanceUID", "") or "")
    return uids


def _elements(file: BinaryIO, meta: Dataset) -> Dataset:
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        try:
            return deflated_header(file)
        except zlib.error:  # group 2 is before it and not deflated (PS3.10 7.1)
            return Dataset()
    file.seek(0)
    return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(UIDS), force=True)
