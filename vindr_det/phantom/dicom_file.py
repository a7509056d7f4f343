"""Write a radiograph as a DICOM file with the headers that VinBigData's files have, gaps included.

Shares follow the header table of the 15,000 training files: transfer syntax, polarity, bits
stored, missing windows, missing pixel spacing, ages such as ``Y`` and ``000Y``.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from vindr_det.files import atomic_path
from vindr_det.phantom.radiograph import Radiograph

_SYNTAXES = (ImplicitVRLittleEndian, JPEG2000Lossless, ExplicitVRLittleEndian)
_SYNTAX_SHARES = np.array([8965, 5299, 736]) / 15000
_BITS = (12, 14, 16, 10)
_BITS_SHARES = np.array([10609, 3472, 860, 59]) / 15000


@dataclass(frozen=True)
class Header:
    """What varies from file to file.

    Attributes:
        syntax: transfer syntax UID.
        bits: BitsStored; 16 are always allocated.
        inverted: MONOCHROME1, where the largest value is black.
        window: whether WindowCenter and WindowWidth are present.
        spacing: pixel spacing in mm, None where the file has none.
        age: PatientAge of the file, not always a valid one.
        sop_class: whether SOPClassUID is present in the data set.
    """

    syntax: str
    bits: int
    inverted: bool
    window: bool
    spacing: float | None
    age: str
    sop_class: bool


def sample_header(rng: np.random.Generator) -> Header:
    """Draw a header in the proportions of the real set."""
    return Header(
        syntax=_SYNTAXES[rng.choice(len(_SYNTAXES), p=_SYNTAX_SHARES)],
        bits=_BITS[rng.choice(len(_BITS), p=_BITS_SHARES)],
        inverted=bool(rng.random() < 2643 / 15000),
        window=bool(rng.random() >= 423 / 15000),
        spacing=None if rng.random() < 2152 / 15000 else float(rng.choice([0.139, 0.143, 0.175])),
        age=str(rng.choice(["Y", "000Y", "", f"{rng.integers(18, 90):03d}Y"], p=[0.2, 0.1, 0.1, 0.6])),
        sop_class=bool(rng.random() >= 0.05),
    )


def write_dicom(path: str | Path, image_id: str, film: Radiograph, header: Header) -> None:
    """Write a DICOM file, whole or not at all."""
    dataset = _dataset(image_id, film, header)
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def uid_of(image_id: str) -> str:
    """A UID that depends on the id alone, so that the same seed gives the same bytes."""
    digest = hashlib.sha256(image_id.encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _dataset(image_id: str, film: Radiograph, header: Header) -> Dataset:
    top = 2**header.bits - 1
    pixels = (top - film.pixels) if header.inverted else film.pixels
    pixels = pixels.astype("<u2")
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = uid_of(image_id)
    compressed = header.syntax == JPEG2000Lossless
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if compressed else header.syntax
    if header.sop_class:
        ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = uid_of(image_id)
    # The real files have none; with these, answers can be made for a PACS.
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid_of(f"study {image_id}"), uid_of(f"series {image_id}")
    ds.PatientSex = film.sex
    if header.age.strip("Y"):
        ds.PatientAge = header.age
    else:  # not a valid age string; written as in the real files
        ds.add_new("PatientAge", "LO", "")
        ds["PatientAge"]._value = header.age
        ds["PatientAge"].VR = "AS"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if header.inverted else "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    if header.spacing is not None:
        ds.PixelSpacing = [header.spacing, header.spacing]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, header.bits, header.bits - 1
    ds.PixelRepresentation = 0
    if header.window:
        center, width = film.window
        ds.WindowCenter = top - center if header.inverted else center
        ds.WindowWidth = width
    ds.RescaleIntercept, ds.RescaleSlope = 0, 1
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    if compressed:
        ds.compress(
            JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False
        )
    return ds


__all__ = ["Header", "sample_header", "write_dicom"]
