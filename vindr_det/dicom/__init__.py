"""DICOM files to 8-bit gray images.

``file`` reads and checks one file, ``stream`` what its compressed pixels say of themselves,
``jpeg2000`` decodes them at reduced resolution, ``grayscale`` turns stored values to grays.
"""

from vindr_det.dicom.file import read_dicom

__all__ = ["read_dicom"]
