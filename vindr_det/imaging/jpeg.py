"""A check that a JPEG of 8 bits holds the whole picture, for JPEG files and for DICOM's JPEG streams."""

from pathlib import Path

import simplejpeg

from vindr_det.exceptions import InputError, one_line


def require_whole_jpeg(path: str | Path, data: bytes) -> None:
    """Refuse data of which libjpeg-turbo fills or skips a part.

    OpenCV, Pillow and libjpeg return a picture all the same, gray where data are missing.

    Args:
        path: of the file, for the message.
        data: a JPEG stream of 8-bit samples, lossy; bytes may follow its end.

    Raises:
        InputError: data end early, are left over, or restart markers are out of sequence.
    """
    try:
        space = simplejpeg.decode_jpeg_header(data)[2]
        # At the smallest size only entropy decoding costs time, and only it is needed.
        simplejpeg.decode_jpeg(data, "CMYK" if space in ("CMYK", "YCCK") else "GRAY",
                               min_height=1, min_width=1, strict=True)
    except ValueError as error:
        raise InputError(f"{path}: a part of the picture is missing or damaged "
                         f"({one_line(error)})") from error
