"""DICOM files to 8-bit gray images.

``file`` reads a file from header to grays: ``source`` opens it without its pixels, ``stream`` reads the
header of compressed pixels, ``pixels`` decodes them, ``jpeg2000`` does so at reduced resolution, ``whole``
checks that nothing is missing, ``photometric`` decides what stored values mean, and ``grayscale`` maps them
to grays. ``header`` and ``identity`` read further elements.
"""

from vindr_det.imaging.dicom.file import read_dicom

__all__ = ["read_dicom"]
