"""Which study, series and object a DICOM file is of: what a hospital finds the image by."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

from vindr_det.files import is_dicom

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def read_uids(path: Path) -> Mapping[str, str]:
    """:data:`UIDS` of a file, whatever its pixels are; empty where it does not tell them.

    Pixels are not read. A deflated file would have to be inflated whole, whatever its size, so that only
    what stands before it is taken (PS3.10 7.1: the media storage SOP instance).
    """
    if not is_dicom(path):
        return dict.fromkeys(UIDS, "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UIDs that break the rules are UIDs all the same
        return _read(path)


def _read(path: Path) -> dict[str, str]:
    meta = pydicom.filereader.read_file_meta_info(path) if _has_preamble(path) else pydicom.Dataset()
    found = pydicom.Dataset()
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(UIDS), force=True)
    uids = {name: str(found.get(name, "") or "") for name in UIDS}
    uids["SOPInstanceUID"] = uids["SOPInstanceUID"] or str(meta.get("MediaStorageSOPInstanceUID", "") or "")
    return uids


def _has_preamble(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
