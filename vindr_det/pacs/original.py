"""The header of an image that is answered, as far as the answers copy it."""

import re
import warnings
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pydicom
from pydicom import Dataset

from vindr_det.exceptions import InputError, one_line
from vindr_det.files import existing_file, is_dicom
from vindr_det.imaging.dicom.grayscale import first_window
from vindr_det.imaging.dicom.photometric import PHOTOMETRICS, is_inverted

#: Without these a PACS has no place for an answer.
_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
#: Patient and study elements that an answer must have, empty where the image has none (type 2).
_REQUIRED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
             "StudyID", "AccessionNumber", "ReferringPhysicianName")
#: Those that it has where the image does.
_OPTIONAL = ("SpecificCharacterSet", "PatientAge", "IssuerOfPatientID", "StudyDescription")
#: Of the pixels, which a presentation state must tell to leave the picture as it was.
_PICTURE = ("Rows", "Columns", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
            "RescaleType", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", "PixelAspectRatio",
            "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PatientOrientation",
            "InstanceNumber")
#: Values that break the rules of their element are left out, as highdicom and a PACS refuse them.
_RULES = {
    "PatientSex": re.compile(r"[MFO]"), "PatientAge": re.compile(r"\d{3}[DWMY]"),
    "StudyTime": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "StudyID": re.compile(r".{0,16}"), "AccessionNumber": re.compile(r".{0,16}"),
    "PatientID": re.compile(r".{0,64}"),
}
_DATES = ("PatientBirthDate", "StudyDate")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


@dataclass(frozen=True)
class Original:
    """An image in an archive.

    Attributes:
        path: its file.
        header: what the answers copy, with one window or lookup table at most; no pixels.
        inverted: whether its largest value is shown black.
    """

    path: Path
    header: Dataset
    inverted: bool

    @property
    def uid(self) -> str:
        """Its SOP instance UID."""
        return str(self.header.SOPInstanceUID)

    @property
    def aspect(self) -> tuple[int, int]:
        """Vertical and horizontal size of a pixel, as whole numbers."""
        for key in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
            value = self.header.get(key)
            if value and float(value[0]) > 0 and float(value[1]) > 0:
                ratio = float(value[0]) / float(value[1])
                return (1, 1) if abs(ratio - 1) < 1e-3 else (round(1000 * ratio), 1000)
        return 1, 1


def read_original(path: str | Path) -> Original:
    """Read the header of an image.

    Raises:
        InputError: no DICOM file, or it has no study, series, instance or class to refer to.
    """
    path = existing_file(path)
    if not is_dicom(path):
        raise InputError(f"{path}: not a DICOM file, so there is no study that an answer could belong to")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break rules are left out below
        try:
            return original_of(path, pydicom.dcmread(path, stop_before_pixels=True, force=True))
        except InputError:
            raise
        except Exception as error:  # values are parsed when they are asked for
            raise InputError(f"{path}: damaged DICOM file ({one_line(error)})") from error


def original_of(path: Path, dataset: Dataset) -> Original:
    """The original of a header that was read.

    Args:
        path: names the file in errors.
        dataset: its elements, pixels or not.

    Raises:
        InputError: as of :func:`read_original`.
    """
    header = Dataset()
    for key in _IDENTITY:
        setattr(header, key, _identity(path, dataset, key))
    for key in _REQUIRED:
        setattr(header, key, "")
    for key in (*_REQUIRED, *_OPTIONAL, *_PICTURE):
        if key in dataset and dataset[key].value not in (None, "") and _is_valid(key, dataset[key].value):
            header.add(dataset[key])
    header.SamplesPerPixel = 1
    _set_modality(header)
    _set_window(header, dataset)
    known = dataset.get("PhotometricInterpretation") in PHOTOMETRICS
    return Original(path, header, known and is_inverted(dataset))


def _identity(path: Path, dataset: Dataset, key: str) -> str:
    meta = getattr(dataset, "file_meta", None) or Dataset()
    value = str(dataset.get(key) or meta.get(f"MediaStorage{key}") or "")
    if not value:
        raise InputError(f"{path}: has no {key}, expected one: an answer must name the image's study, series "
                         "and instance")
    if len(value) > 64 or not _UID.fullmatch(value):
        raise InputError(f"{path}: {key} {value!r} is no UID, expected numbers with points between them")
    return value


def _is_valid(key: str, value: object) -> bool:
    if key in _DATES:
        return _is_date(str(value))
    return key not in _RULES or _RULES[key].fullmatch(str(value)) is not None


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"\d{8}", text):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _set_modality(header: Dataset) -> None:
    """The lookup table, or else slope and intercept with their defaults."""
    if not _has_table(header, "ModalityLUTSequence"):
        for key, default in (("RescaleSlope", 1), ("RescaleIntercept", 0), ("RescaleType", "US")):
            setattr(header, key, header.get(key, default))
        return
    for key in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        header.pop(key, None)


def _has_table(header: Dataset, key: str) -> bool:
    """Whether a sequence holds a table; one that is not whole is left out."""
    items = header.get(key)
    if items and all(items[0].get(part) is not None for part in ("LUTDescriptor", "LUTData")):
        return True
    header.pop(key, None)
    return False


def _set_window(header: Dataset, dataset: Dataset) -> None:
    """The lookup table, or else the first window, by which the picture is shown."""
    if _has_table(header, "VOILUTSequence"):
        header.pop("VOILUTFunction", None)
        return
    window = first_window(dataset)
    if window is not None:
        header.WindowCenter, header.WindowWidth = window
    elif "VOILUTFunction" in header:
        del header.VOILUTFunction
