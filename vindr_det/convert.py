"""The conversion of one data set from VinBigData's tables to COCO files and folds."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from vindr_det.annotations import read_annotations, read_sizes, to_records
from vindr_det.coco import to_coco
from vindr_det.errors import InputError
from vindr_det.files import list_images, write_csv, write_json
from vindr_det.folds import assign_folds, label_matrix
from vindr_det.records import Record


def convert(
    csv: str | Path, meta: str | Path, out: str | Path, *, images: str | Path | None = None,
    fusion: str = "wbf", iou_thr: float = 0.4, min_readers: int = 1, folds: int = 5, seed: int = 0,
) -> str:
    """Write the COCO files and ``folds.csv`` (image_id, fold) to ``out``; returns a summary line.

    Args:
        csv: VinBigData's annotation table.
        meta: sizes of the originals.
        out: folder to create.
        images: folder in which every image must exist; its file names are then used.
        fusion: see :func:`vindr_det.annotations.consensus`.
        iou_thr: likewise.
        min_readers: likewise.
        folds: how many.
        seed: of the folds.

    Raises:
        InputError: the tables are faulty, or an image is missing.
    """
    if not 0 < iou_thr < 1:
        raise InputError(f"--iou-thr {iou_thr}: expected a number between 0 and 1")
    sizes = read_sizes(meta)
    records = to_records(read_annotations(csv, sizes), sizes, fusion, iou_thr, min_readers)
    if images is not None:
        records = _with_files(records, images)
    fold_of = assign_folds(label_matrix(records), folds, seed)
    out = Path(out)
    write_json(out / "instances_all.json", to_coco(records))
    for fold in range(folds):
        held_out = fold_of == fold
        for name, mask in (("train", ~held_out), ("val", held_out)):
            part = [record for record, chosen in zip(records, mask, strict=True) if chosen]
            write_json(out / f"instances_{name}_fold{fold}.json", to_coco(part))
    ids = [record.image_id for record in records]
    write_csv(out / "folds.csv", pd.DataFrame({"image_id": ids, "fold": fold_of}))
    boxes = sum(len(record.truth) for record in records)
    normal = sum(record.normal for record in records)
    return f"{len(records)} images ({normal} normal), {boxes} boxes, {folds} folds in {out}"


def _with_files(records: list[Record], folder: str | Path) -> list[Record]:
    files = {path.stem: path.name for path in list_images(folder)}
    missing = [record.image_id for record in records if record.image_id not in files]
    if missing:
        raise InputError(f"{folder}: {len(missing)} annotated images are missing, the first is "
                         f"{missing[0]}")
    return [replace(record, file_name=files[record.image_id]) for record in records]
