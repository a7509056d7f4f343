"""The header of an image that is answered, as far as the answers copy it."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.multival import MultiValue

from vindr_det.exceptions import InputError, one_line
from vindr_det.files import existing_file, is_dicom
from vindr_det.imaging.dicom.grayscale import first_window
from vindr_det.imaging.dicom.header import modality_flags
from vindr_det.imaging.dicom.photometric import PHOTOMETRICS, is_inverted
from vindr_det.pacs.lookup_tables import modality_table, voi_table
from vindr_det.pacs.text import declare_character_set, fitted

#: Without these a PACS has no place for an answer.
_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
#: Patient and study elements that an answer must have, empty where the image has none (type 2).
_REQUIRED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
             "StudyID", "AccessionNumber", "ReferringPhysicianName")
#: Those that it has where the image does.
_OPTIONAL = ("PatientAge", "IssuerOfPatientID", "StudyDescription", "TimezoneOffsetFromUTC", "Modality",
             "BodyPartExamined", "Laterality")
#: Of the pixels, which a presentation state must tell to leave the picture as it was.
_PICTURE = ("Rows", "Columns", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
            "RescaleType", "VOILUTFunction", "PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing",
            "NominalScannedPixelSpacing", "PatientOrientation", "InstanceNumber", "LossyImageCompression",
            "LossyImageCompressionRatio", "LossyImageCompressionMethod")
#: In any language; decoded, as answers are in UTF-8 whatever the image is in.
_TEXTS = {"PatientID": "LO", "PatientName": "PN", "StudyID": "SH", "AccessionNumber": "SH",
          "ReferringPhysicianName": "PN", "IssuerOfPatientID": "LO", "StudyDescription": "LO",
          "RescaleType": "LO"}
#: Values that break the rules of their element are left out, as highdicom and a PACS refuse them.
_RULES = {
    "PatientSex": re.compile(r"[MFO]"), "PatientAge": re.compile(r"\d{3}[DWMY]"),
    "StudyTime": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "StudyID": re.compile(r"[^\\]{0,16}"), "AccessionNumber": re.compile(r"[^\\]{0,16}"),
    "TimezoneOffsetFromUTC": re.compile(r"[+-](0\d|1[0-4])[0-5]\d"),
    "Modality": re.compile(r"[A-Z0-9_ ]{1,16}"), "BodyPartExamined": re.compile(r"[A-Z0-9_ ]{1,16}"),
    "Laterality": re.compile(r"[LR]"), "LossyImageCompression": re.compile(r"0[01]"),
}
_DATES = ("PatientBirthDate", "StudyDate")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_LONGEST_PATIENT_ID = 64
#: Modalities of plain radiography, and those that converted films carry or lack.
_PLAIN = ("", "CR", "DX", "DR", "RG", "OT", "SC")


@dataclass(frozen=True)
class Original:
    """An image in an archive.

    Attributes:
        path: its file.
        header: what the answers copy, with one window or lookup table at most; no pixels.
        inverted: whether its largest value is shown black.
        body_part: BodyPartExamined of the answers; empty where it is unknown.
        is_radiograph: whether it is plain radiography, by its modality and class.
        notes: what people should know of the header.
    """

    path: Path
    header: Dataset
    inverted: bool
    body_part: str = ""
    is_radiograph: bool = True
    notes: tuple[str, ...] = ()

    @property
    def uid(self) -> str:
        """Its SOP instance UID."""
        return str(self.header.SOPInstanceUID)

    @property
    def aspect(self) -> tuple[int, int]:
        """Vertical and horizontal size of a pixel, as whole numbers."""
        for key in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
            value = self.header.get(key)
            sides = [float(side) for side in value] if isinstance(value, MultiValue) else []
            if len(sides) == 2 and min(sides) > 0:
                ratio = sides[0] / sides[1]
                return (1, 1) if abs(ratio - 1) < 1e-3 else (round(1000 * ratio), 1000)
        return 1, 1


def read_original(path: str | Path) -> Original:
    """Read the header of an image.

    Raises:
        InputError: no DICOM file, it has no study, series, instance or class to refer to, or no PatientID
            that an answer could copy.
    """
    path = existing_file(path)
    if not is_dicom(path):
        raise InputError(f"{path}: not a DICOM file, so there is no study that an answer could belong to")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break rules are left out below
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            original = original_of(path, dataset)
            _require_patient(path, dataset)
            return original
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
        value = _value(dataset, key)
        if value not in (None, "") and _is_valid(key, value):
            setattr(header, key, fitted(value, _TEXTS[key]) if key in _TEXTS else value)
    declare_character_set(header)
    header.SamplesPerPixel = 1
    _set_modality(header, dataset)
    _set_window(header, dataset)
    known = dataset.get("PhotometricInterpretation") in PHOTOMETRICS
    return Original(path, header, known and is_inverted(dataset), *_origin(header, dataset))


def _value(dataset: Dataset, key: str) -> Any:
    """A value in Python's type, several texts as one; None where there is none that can be read."""
    try:
        value = dataset.get(key)
    except Exception:  # values are parsed when they are asked for
        return None
    several = isinstance(value, MultiValue) and key in (*_REQUIRED, *_OPTIONAL, *_TEXTS)
    return "\\".join(map(str, value)) if several else value


def _require_patient(path: Path, dataset: Dataset) -> None:
    """Refuse an image whose answer could not have its PatientID: with another it would be somebody else's."""
    value = str(_value(dataset, "PatientID") or "")
    if "\\" in value:
        raise InputError(f"{path}: PatientID of several values, expected one")
    if len(value) > _LONGEST_PATIENT_ID:
        raise InputError(f"{path}: PatientID of {len(value)} characters, expected at most "
                         f"{_LONGEST_PATIENT_ID}")


def _origin(header: Dataset, dataset: Dataset) -> tuple[str, bool, tuple[str, ...]]:
    """Body part, whether it is a radiograph, and what people should know."""
    plain = str(_value(dataset, "Modality") or "") in _PLAIN
    is_radiograph = plain and not modality_flags(dataset)
    named = bool(_value(dataset, "BodyPartExamined"))
    part = str(header.get("BodyPartExamined", "CHEST" if is_radiograph and not named else ""))
    return part, is_radiograph, tuple(_character_notes(dataset))


def _character_notes(dataset: Dataset) -> Iterator[str]:
    """Of texts whose letters are a guess of pydicom."""
    declared = _value(dataset, "SpecificCharacterSet") or ""
    sets = [declared] if isinstance(declared, str) else list(declared)
    unknown = next((name for name in sets if _standard_name(name) not in python_encoding), None)
    texts = [str(_value(dataset, key) or "") for key in _TEXTS]
    if unknown is not None:
        yield f"the image's character set {fitted(unknown, 'SH')} is unknown: names may be wrong"
    elif not any(sets) and not "".join(texts).isascii():
        yield "the image names no character set for its texts: names may be wrong"


def _standard_name(name: str) -> str:
    """A character set's name without the usual misspellings, which pydicom repairs too."""
    name = re.sub(r"^ISO[-_ ]IR[-_ ]", "ISO_IR ", str(name).strip())
    return re.sub(r"^ISO.2022.IR.", "ISO 2022 IR ", name)


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


def _set_modality(header: Dataset, dataset: Dataset) -> None:
    """The lookup table, or else slope and intercept with their defaults."""
    table = modality_table(dataset)
    if table is None:
        for key, default in (("RescaleSlope", 1), ("RescaleIntercept", 0), ("RescaleType", "US")):
            setattr(header, key, header.get(key, default))
        return
    for key in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        header.pop(key, None)
    header.ModalityLUTSequence = [table]


def _set_window(header: Dataset, dataset: Dataset) -> None:
    """The lookup table, or else the first window, by which the picture is shown."""
    table = voi_table(dataset)
    if table is not None:
        header.VOILUTSequence = [table]
        header.pop("VOILUTFunction", None)
        return
    window = first_window(dataset)
    if window is not None:
        header.WindowCenter, header.WindowWidth = window
    elif "VOILUTFunction" in header:
        del header.VOILUTFunction
