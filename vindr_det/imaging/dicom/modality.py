"""Whether a header names a modality or SOP class that is not radiography, or another part than the chest."""

from pydicom import Dataset
from pydicom.uid import UID

#: Modality of radiographs; OT is what converted films often carry.
_MODALITIES = ("", "CR", "DX", "DR", "RG", "RF", "XA", "PX", "IO", "OT")
# Computed and digital radiography, intra-oral, secondary capture, angiography and fluoroscopy (PS3.4 B.5):
# the classes that go with these modalities.
_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in (
    "1", "1.1", "1.1.1", "1.3", "1.3.1", "7", "7.1", "7.2", "7.3", "7.4", "12.1", "12.2"))
# Parts of BodyPartExamined's value (PS3.16 Annex L, and free text) that cover the chest.
_CHEST = ("CHEST", "THORA", "TORA", "LUNG", "HEART")


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
