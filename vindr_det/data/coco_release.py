"""COCO files of any data set as a release: repaired, in folds, or turned to YOLO's folders."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vindr_det.data.coco import read_coco
from vindr_det.data.folds import label_matrix
from vindr_det.data.image_frames import image_frames, read_patients
from vindr_det.data.release import (
    TRAIN,
    Annotations,
    Conversion,
    Release,
    Table,
    boxes_in_labels,
    own_patients,
    summary_of_boxes,
)
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record, label_set_of_records


def read(
    options: Conversion, annotations: str | Path, val_annotations: str | Path | None = None,
    test_annotations: str | Path | None = None, images: str | Path | None = None,
    patients: str | Path | None = None,
) -> Annotations:
    """COCO files of one or several parts.

    Args:
        options: of the folds.
        annotations: of all images, or of the training part.
        val_annotations: of the validation part.
        test_annotations: of the test part.
        images: folder in which each image must exist; its file names are then used.
        patients: table of image_id and patient_id; None takes the images' keys ``patient`` or ``patient_id``.

    Raises:
        InputError: a file is faulty, an image is missing or in two parts, or the findings differ.
    """
    given = [(TRAIN, annotations), ("val", val_annotations), ("test", test_annotations)]
    files = [(part, path) for part, path in given if path is not None]
    records: list[Record] = []
    parts: list[str] = []
    for part, path in files:
        own = _of_one_set(path, read_coco(path, strict=True), records)
        _refuse_both(path, own, records)
        records += own
        parts += [part] * len(own)
    if not records:
        raise InputError(f"{annotations}: holds no image")
    frames = image_frames([record.image_id for record in records], images, None, options.workers, side=1)
    kept = [at for at, record in enumerate(records) if record.image_id not in frames.absent]
    records = [replace(records[at], file_name=frames.names.get(records[at].image_id, records[at].file_name))
               for at in kept]
    names = np.array(parts)[kept]
    owners = (own_patients([dict(files)[name] for name in names.tolist()], records) if patients is None
              else read_patients(patients, [record.image_id for record in records]))
    return Annotations(boxes_in_labels(records, owners), label_matrix(records), owners, records,
                       parts=names if len(files) > 1 else None)


def _of_one_set(path: str | Path, records: Sequence[Record], others: Sequence[Record]) -> list[Record]:
    """The records in the label set of the others, whose findings must be the same, whatever its name."""
    if not records or not others:
        return list(records)
    first, own = label_set_of_records(others), label_set_of_records(records)
    if own.findings != first.findings:
        raise InputError(f"{path}: has the findings of {own.name}, {', '.join(own.findings)}; expected those "
                         f"of {first.name}, {', '.join(first.findings)}")
    return [in_label_set(record, first) for record in records]


def in_label_set(record: Record, label_set: LabelSet) -> Record:
    """The record with its class ids taken for those of a set of the same findings."""
    return replace(record, truth=replace(record.truth, label_set=label_set))


def _refuse_both(path: str | Path, records: Sequence[Record], others: Sequence[Record]) -> None:
    both = {record.image_id for record in records} & {record.image_id for record in others}
    if both:
        raise InputError(f"{path}: image {min(both)} is in another part too")


_FILE = Table("a COCO file")
RELEASE = Release("coco", None, read, summary_of_boxes, {
    "annotations": (_FILE,), "val_annotations": (_FILE,), "test_annotations": (_FILE,)})
