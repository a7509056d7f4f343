"""What a header's elements tell of the image: modality, body part, distances between pixels; and their flags.

The UIDs, which are read without the rest of the header, are in :mod:`vindr_det.imaging.dicom.identity`.
"""

import math

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

#: Modality of radiographs; OT is what converted films often carry.
_MODALITIES = ("", "CR", "DX", "DR", "RG", "RF", "XA", "PX", "IO", "OT")
# Computed and digital radiography, intra-oral, secondary capture, angiography and fluoroscopy (PS3.4 B.5):
# the classes that go with these modalities.
_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in (
    "1", "1.1", "1.1.1", "1.3", "1.3.1", "7", "7.1", "7.2", "7.3", "7.4", "12.1", "12.2"))
# Parts of BodyPartExamined's value (PS3.16 Annex L, and free text) that cover the chest.
_CHEST = ("CHEST", "THORA", "TORA", "LUNG", "HEART")
# On the patient, on the detector, on the film (PS3.3 10.7, C.8.11.3, C.8.6.1).
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# Sides that differ by less are rounding.
_TOLERANCE = 0.01


def body_part_flags(dataset: Dataset) -> list[str]:
    """A flag for a body part that is named and does not cover the chest; many films name none."""
    part = str(dataset.get("BodyPartExamined", "") or "").strip()
    named = part and not any(name in part.upper() for name in _CHEST)
    return [f"body part {part} is not the chest"] if named else []


def modality_flags(dataset: Dataset) -> list[str]:
    """A flag for a modality or, where that is radiography, for a SOP class that is not.

    Private SOP classes are ignored.
    """
    modality = str(dataset.get("Modality", "") or "")
    if modality not in _MODALITIES:
        return [f"modality {modality} is not radiography"]
    uid = UID(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    known = not uid.is_private and uid.type == "SOP Class"
    return [f"SOP class {uid.name} is not radiography"] if known and uid not in _CLASSES else []


def pixel_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Millimeters between rows and between columns, None where the file has neither."""
    pairs = (_pair(dataset, key) for key in _SPACINGS)
    return next((pair for pair in pairs if pair is not None), None)


def spacing_flags(dataset: Dataset) -> list[str]:
    """A flag per element by which pixels are not square; the picture is never stretched to correct it."""
    pairs = ((key, _pair(dataset, key)) for key in (*_SPACINGS, "PixelAspectRatio"))
    return [f"pixels are not square: {key} {pair[0]:g}/{pair[1]:g}" for key, pair in pairs
            if pair is not None and abs(pair[0] / pair[1] - 1) > _TOLERANCE]


def _pair(dataset: Dataset, key: str) -> tuple[float, float] | None:
    """Vertical and horizontal, where both are numbers above 0."""
    value = dataset.get(key)
    if not isinstance(value, MultiValue) or len(value) != 2:
        return None
    try:
        vertical, horizontal = float(value[0]), float(value[1])
    except (TypeError, ValueError):
        return None
    usable = min(vertical, horizontal) > 0 and math.isfinite(vertical + horizontal)
    return (vertical, horizontal) if usable else None
