"""An image's lookup tables, as its answers copy them: the presentation state replaces those of the image."""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from vindr_det.imaging.dicom.grayscale import holds_table, table_descriptor, table_entries, voi_table_bits
from vindr_det.pacs.text import fitted

#: Of 16 bits.
_TOP = 2**16 - 1


def modality_table(dataset: Dataset) -> Dataset | None:
    """The item of the modality LUT, whose entries are values (PS3.3 C.11.1.1).

    Args:
        dataset: header of the image, with its meta information.

    Returns:
        None without a whole table.
    """
    if not holds_table(dataset, "ModalityLUTSequence"):
        return None
    item = dataset.ModalityLUTSequence[0]
    try:
        table = _item(item, table_entries(dataset, item))
    except ValueError:  # it is damaged
        return None
    table.ModalityLUTType = fitted(item.get("ModalityLUTType") or "US", "LO")
    return table


def voi_table(dataset: Dataset) -> Dataset | None:
    """The item of the VOI LUT, its entries scaled from the bits that they span to 16 (PS3.3 C.11.2.1.1).

    Args:
        dataset: header of the image, with its meta information.

    Returns:
        None without a whole table.
    """
    if not holds_table(dataset, "VOILUTSequence"):
        return None
    item = dataset.VOILUTSequence[0]
    try:
        entries = table_entries(dataset, item) / (2.0**voi_table_bits(dataset, item) - 1)
    except ValueError:  # it is damaged
        return None
    return _item(item, np.rint(entries * _TOP))


def _item(item: Dataset, entries: NDArray) -> Dataset:
    """A table of 16 bits with explicit representations, as a state has no pixels that would tell them."""
    first, table = table_descriptor(item)[1], Dataset()
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, 16])
    table.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return table
