"""An answer to DICOM objects, and these to files."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydicom import Dataset
from pydicom.valuerep import DA, TM

from vindr_det.exceptions import InputError, one_line
from vindr_det.files import atomic_path
from vindr_det.pacs.answer import Answer
from vindr_det.pacs.capture import secondary_capture
from vindr_det.pacs.presentation_state import presentation_state
from vindr_det.pacs.structured_report import structured_report
from vindr_det.pacs.text import declare_character_set

#: Kind -> what makes an object of it: a picture, a report, graphics on the original.
KINDS: Mapping[str, Callable[[Answer], Dataset]] = {
    "sc": secondary_capture, "sr": structured_report, "pr": presentation_state}

#: Of the patient, the study and the clock, which highdicom does not copy into each kind.
_COPIED = ("IssuerOfPatientID", "PatientAge", "StudyDescription", "TimezoneOffsetFromUTC")
#: Parts that are no side of the body's.
_UNPAIRED = ("CHEST", "THORAX", "ABDOMEN", "HEART", "SKULL", "HEAD", "NECK", "SPINE", "PELVIS", "WHOLEBODY")


def objects_of(answer: Answer, kinds: Sequence[str] = tuple(KINDS)) -> dict[str, Dataset]:
    """The objects that tell an answer.

    An image that was not read has its report alone, which says so, and an image without boxes has no
    presentation state, which would have nothing to show. Where none is left of the kinds there is a report,
    as no object at all would read as an image without findings.

    Args:
        answer: what to tell.
        kinds: of :data:`KINDS`.

    Returns:
        Kind -> object.

    Raises:
        InputError: the image's file cannot be read any more, or an element of it cannot be copied.
    """
    told = [kind for kind in kinds if kind == "sr" or (answer.is_read and (kind == "sc" or answer.boxes))]
    told = told or ["sr"]
    logging.getLogger("highdicom").setLevel(logging.CRITICAL)  # its lines have names and UIDs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return {kind: _completed(KINDS[kind](answer), answer) for kind in told}
        except InputError:
            raise
        except Exception as error:  # highdicom's checks of values that are copied
            raise InputError(f"{answer.original.path}: an element of it cannot be in an answer "
                             f"({type(error).__name__}: {one_line(error)})") from error


def _completed(dataset: Dataset, answer: Answer) -> Dataset:
    """With what highdicom leaves out, or makes of the time of day."""
    header = answer.original.header
    for key in _COPIED:
        if key in header:
            dataset[key] = header[key]
    part = answer.original.body_part
    if dataset.Modality != "SR":
        if part:
            dataset.BodyPartExamined = part
        if part not in _UNPAIRED:  # of type 2C (PS3.3 C.7.3.1)
            dataset.Laterality = header.get("Laterality", "")
    # highdicom's item of the acquisition has the time of day; without it the same answer has the same bytes.
    dataset.pop("ContributingEquipmentSequence", None)
    dataset.InstanceCreationDate = DA(answer.moment.date())
    dataset.InstanceCreationTime = TM(answer.moment.time())
    declare_character_set(dataset)
    return dataset


def write_object(path: Path, dataset: Dataset) -> None:
    """Write an object as a DICOM file, whole or not at all."""
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(temporary, enforce_file_format=True)
