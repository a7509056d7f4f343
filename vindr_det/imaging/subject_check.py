"""Whether a file is the image that a row of a status table tells of."""

from pathlib import Path

from vindr_det.files import is_dicom
from vindr_det.imaging.dicom.identity import read_uids
from vindr_det.imaging.image_run import is_of_another_shape
from vindr_det.imaging.status import Status
from vindr_det.parallel import Failure, guarded

_UID = "SOPInstanceUID"


def mismatch(path: Path, size: tuple[int, int], status: Status) -> str:
    """What tells a file from the image that was predicted; empty if nothing does.

    A DICOM file must have the row's own UID and size. A PNG or JPEG may be a smaller copy, of the original's
    shape or, as some data sets are distributed, square.

    Args:
        path: the file.
        size: (height, width) of the file.
        status: the row of its id.
    """
    if status.height and status.width:
        predicted = status.height, status.width
        if size != predicted if is_dicom(path) else is_of_another_shape(size, predicted):
            return (f"the file has {size[1]} x {size[0]} pixels, the predicted image {status.width} x "
                    f"{status.height}")
    return _uid_mismatch(path, status.uids.get(_UID, ""))


def _uid_mismatch(path: Path, predicted: str) -> str:
    uids = guarded(read_uids, path) if predicted else {}
    own = "" if isinstance(uids, Failure) else uids.get(_UID, "")
    if not own or own == predicted:
        return ""
    return f"the file's {_UID} is {own}, the predicted image's {predicted}"
