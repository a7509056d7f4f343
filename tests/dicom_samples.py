"""DICOM files made for the tests."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def write(path: Path, pixels, photometric="MONOCHROME2", bits=12, syntax=None, **tags) -> Path:
    """Write (H, W) integers of 8 or 16 bits; ``syntax`` encodes them, ``tags`` are set last."""
    native = syntax in (None, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax if native and syntax else ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    if not native:
        ds.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    for key, value in tags.items():
        setattr(ds, key, value)
    ds.save_as(path, enforce_file_format=True)
    return path
