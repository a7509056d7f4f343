"""DICOM files to 8-bit gray images.

``file`` reads and checks one file, ``source`` opens it without taking its pixels, ``stream`` tells what
compressed pixels say of themselves, ``pixels`` decodes them, ``jpeg2000`` does so at reduced resolution,
``photometric`` decides what stored values mean, ``grayscale`` maps them to grays; ``spacing`` and ``identity`` tell what else a header knows.
"""

from vindr_det.imaging.dicom.file import read_dicom

__all__ = ["read_dicom"]
