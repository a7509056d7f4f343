"""True boxes from a COCO JSON or from VinBigData's table, whichever a file holds."""

from pathlib import Path

from vindr_det.data.coco import read_coco
from vindr_det.data.vinbigdata import furthest_corners, read_annotations, to_records
from vindr_det.files import holds_json
from vindr_det.imaging.sizes import read_sizes
from vindr_det.structures.records import Record


def read_truth(path: str | Path, meta: str | Path | None = None) -> list[Record]:
    """Annotations from a COCO JSON or from a VinBigData table, whatever the file's name.

    A table with several readers is fused to their consensus. With ``meta``, boxes must lie inside their
    images; without it, the furthest corner of an image's boxes is taken for its size, on which overlap does
    not depend.

    Raises:
        InputError: a faulty file, or an image without a size in ``meta``.
    """
    if holds_json(path):
        return read_coco(path)
    sizes = read_sizes(meta) if meta else None
    frame = read_annotations(path, sizes)
    return to_records(frame, furthest_corners(frame) if sizes is None else sizes)
