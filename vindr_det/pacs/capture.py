"""An answer as a secondary capture: a picture with the boxes burned in, which every viewer shows."""

from highdicom.sc import SCImage
from pydicom import Dataset
from pydicom.valuerep import DA, TM

from vindr_det.imaging.drawing import draw
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target
from vindr_det.limits import MAX_PIXELS
from vindr_det.pacs.answer import STATEMENT, Answer
from vindr_det.pacs.text import fitted

KIND, SERIES = "sc", 9001
#: Pixels of the picture's longest side, without the lines of text, at most and at least.
LONGEST, SHORTEST = 1024, 768
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def secondary_capture(answer: Answer, max_pixels: int = MAX_PIXELS) -> Dataset:
    """The picture as an RGB image; it has no pixel spacing, so that nobody measures on it.

    Args:
        answer: of an image that was read.
        max_pixels: larger images are refused.

    Raises:
        InputError: the image cannot be read.
    """
    header = answer.original.header
    size = int(header.Rows), int(header.Columns)
    pixels = read_image(answer.original.path, Target(LONGEST, True), max_pixels).pixels
    picture = draw(pixels, answer.predictions, frame=size, longest=min(LONGEST, max(SHORTEST, *size)),
                   title=STATEMENT, notes=_notes(answer))
    common = answer.common(KIND, SERIES)
    capture = SCImage.from_ref_dataset(
        header, picture, "RGB", 8, "PATIENT", patient_orientation=("L", "F"),
        series_description="Findings of a model (picture)", **common)
    _tell_origin(capture, answer)
    return capture


def _notes(answer: Answer) -> list[str]:
    shown = f"{len(answer.boxes)} boxes with a score of {answer.score:g} or more"
    return [f"{fitted(answer.algorithm.name, 'LO')} {fitted(answer.algorithm.version[:12], 'LO')}: {shown}",
            *([answer.remark] if answer.remark else [])]


def _tell_origin(capture: Dataset, answer: Answer) -> None:
    """What is derived from which image, and when."""
    header = answer.original.header
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    capture.SourceImageSequence = [source]
    capture.DerivationDescription = "Boxes of a model drawn on the image, at another size"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.BurnedInAnnotation = "YES"
    capture.ImageComments = fitted("; ".join(answer.comments), "LT")
    capture.DateOfSecondaryCapture = DA(answer.moment.date())
    capture.TimeOfSecondaryCapture = TM(answer.moment.time())
    # Unknown where the image has none; highdicom requires some.
    capture.PatientOrientation = header.get("PatientOrientation", [])
    if header.get("LossyImageCompression") == "01":  # once lossy, always so (PS3.3 C.7.6.1.1.5)
        for key in _LOSSY:
            if key in header:
                capture[key] = header[key]
    if answer.original.aspect != (1, 1):
        capture.PixelAspectRatio = list(answer.original.aspect)
