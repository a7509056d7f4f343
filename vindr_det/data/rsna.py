"""RSNA's pneumonia detection challenge (2018): boxes of lung opacity on images of NIH's archive.

All images are of 1,024 x 1,024 pixels. ``patientId`` names an image. Patients with several images have names
in NIH's archive alone, to which the organizers published a mapping; it is taken as a table of patients.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.box_rows import EDGES, refuse_smaller_frame, row_of, to_records
from vindr_det.data.folds import label_matrix
from vindr_det.data.image_frames import image_frames, read_patients
from vindr_det.data.release import (
    Annotations,
    Conversion,
    Release,
    Table,
    boxes_in_labels,
    compared,
    summary_of_boxes,
)
from vindr_det.exceptions import InputError
from vindr_det.structures.boxes import xywh_to_xyxy
from vindr_det.structures.label_sets import RSNA_PNEUMONIA
from vindr_det.tables import as_numbers, read_csv, refuse_first

#: Side of all images.
IMAGE_SIDE = 1024
#: The classes of stage_2_detailed_class_info.csv.
CLASSES = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")
#: Counts of the published training tables of stage 2.
PUBLISHED: Mapping[str, int] = {"images": 26684, "boxes": 9555, "images with boxes": 6012}

_ID = ["patientId"]
_BOX = ["x", "y", "width", "height"]


def read(
    options: Conversion, annotations: str | Path, labels: str | Path | None = None,
    images: str | Path | None = None, patients: str | Path | None = None,
) -> Annotations:
    """The training tables, as conversion takes them.

    Args:
        options: of the folds.
        annotations: stage_2_train_labels.csv: patientId, x, y, width, height, Target.
        labels: stage_2_detailed_class_info.csv: patientId, class.
        images: folder in which each image must exist; its file names are then used.
        patients: table of image_id and patient_id.

    Raises:
        InputError: a table is faulty, the two contradict each other, or an image is missing.
    """
    table = read_csv(annotations, ["patientId", *_BOX, "Target"], texts=_ID)
    images_of, target = table["patientId"], as_numbers(table["Target"])
    refuse_first(annotations, ~target.isin([0, 1]), lambda i:
                 f"Target {table['Target'].iloc[i]}, expected 0 or 1")
    boxed = table[_BOX].notna().any(axis=1) | images_of.isin(images_of[target == 1])
    refuse_first(annotations, (target == 0) & boxed, lambda i:
                 f"image {images_of.iloc[i]} has Target 0 and a box, expected either")
    rows = pd.DataFrame(xywh_to_xyxy(table[_BOX].apply(as_numbers).to_numpy()), columns=EDGES)
    rows = rows.assign(image_id=images_of, class_id=target.astype(int) - 1)
    frames = image_frames(images_of.unique().tolist(), images, None, options.workers, side=IMAGE_SIDE)
    refuse_smaller_frame(annotations, rows, frames)
    records = to_records(row_of(annotations), rows, frames, RSNA_PNEUMONIA, suffix=".dcm")
    ids = [record.image_id for record in records]
    owners = None if patients is None else read_patients(patients, ids)
    shares = boxes_in_labels(records, owners)
    if labels is not None:
        kinds = _read_classes(labels, annotations, images_of, target).reindex(ids)
        shares = shares.assign(**{name: (kinds == name).to_numpy(int) for name in CLASSES})
    return Annotations(shares, label_matrix(records), owners, records)


def _read_classes(
    path: str | Path, annotations: str | Path, images: pd.Series, target: pd.Series
) -> pd.Series:
    """The class of each image; the table repeats an image for each of its boxes."""
    table = read_csv(path, ["patientId", "class"], texts=_ID)
    names, lower = table["patientId"], {name.casefold(): name for name in CLASSES}
    kinds = table["class"].astype(str).str.strip().str.casefold().map(lower)
    refuse_first(path, kinds.isna(), lambda i: f"class {table['class'].iloc[i]!r}, expected one of "
                 f"{', '.join(CLASSES)}")
    kind_of = pd.Series(kinds.to_numpy(), index=names)
    first = kind_of[~kind_of.index.duplicated()]
    refuse_first(path, kinds.to_numpy() != first.reindex(names).to_numpy(), lambda i:
                 f"image {names.iloc[i]} is {kinds.iloc[i]}, but {first[names.iloc[i]]} above")
    missing = images[~images.isin(first.index)]
    if len(missing):
        raise InputError(f"{path}: image {missing.iloc[0]} of {annotations} has no class")
    refuse_first(annotations, (first.reindex(images) == CLASSES[0]).to_numpy() != (target == 1).to_numpy(),
                 lambda i: f"image {images.iloc[i]} has Target {target.iloc[i]:g}, but {path} has "
                 f"{first[images.iloc[i]]!r}")
    return first


def summary(
    annotations: Annotations, fold_of: NDArray[np.int64], options: Conversion, out: Path
) -> list[str]:
    """Counts of images and boxes, compared with the published ones, in lines."""
    boxes = [len(record.truth) for record in annotations.records]
    counts = {"images": len(boxes), "boxes": sum(boxes), "images with boxes": sum(n > 0 for n in boxes)}
    return [*summary_of_boxes(annotations, fold_of, options, out), *compared(counts, PUBLISHED)]


RELEASE = Release("rsna", RSNA_PNEUMONIA, read, summary, {
    "annotations": (Table("RSNA's stage_2_train_labels.csv", ("patientId", *_BOX, "Target")),),
    "labels": (Table("RSNA's stage_2_detailed_class_info.csv", ("patientId", "class")),)})
