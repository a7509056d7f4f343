"""NIH ChestX-ray14's boxes as a detection set, whose truth is incomplete: which findings are unknown where.

BBox_List_2017.csv has 984 boxes on 880 images; on 521 of them the labels of Data_Entry_2017 name another of
the eight boxed findings, which has no box there. An image of the eight findings' labels without any box
teaches nothing of its findings and is left out, unless a list names it. An image whose labels name none of
the eight is a negative for all of them.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.box_rows import (
    EDGES,
    Place,
    class_ids,
    refuse_row,
    refuse_smaller_frame,
    row_of,
    to_records,
    with_empty_images,
)
from vindr_det.data.folds import label_matrix
from vindr_det.data.image_frames import image_frames
from vindr_det.data.nih import (
    BOX_TABLE,
    IMAGE_SIDE,
    LABEL_TABLE,
    NAMES,
    label_matrix_of_texts,
    read_box_table,
    read_labels,
)
from vindr_det.data.release import Annotations, Conversion, Release, Table, compared, summary_of_boxes
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of
from vindr_det.structures.boxes import xywh_to_xyxy
from vindr_det.structures.label_sets import NIH, NIH_BOXES
from vindr_det.tables import as_numbers, read_csv, read_names, refuse_first

_PUBLISHED = {"boxes": 984, "images with boxes": 880}
_PARTS = ("train", "val", "test")
# The published boxes exceed the image by up to a pixel.
_MARGIN = 1.0

log = logging.getLogger(__name__)


def read(
    options: Conversion, annotations: str | Path, labels: str | Path, ids: str | Path | None = None,
    images: str | Path | None = None,
) -> Annotations:
    """NIH's boxes and labels as images with boxes and with unknown findings.

    Args:
        options: of the folds.
        annotations: BBox_List_2017.csv, or a table of image, class, x_min, y_min, x_max, y_max in the frame
            of 1,024 x 1,024 pixels.
        labels: Data_Entry_2017.csv or its version of 2020, or a table of image, patient, labels and
            optionally split (train, val, test).
        ids: a list of the images to take; None takes those with boxes, and the negatives.
        images: folder in which each image must exist; its file names are then used.

    Raises:
        InputError: a table is faulty, an image of one is not in the other, or a patient is in two parts.
    """
    frame = _read_labels(labels)
    rows, place = _read_boxes(annotations), row_of(annotations)
    refuse_row(place, ~rows["image_id"].isin(frame["image_id"]), lambda i:
                        f"image {rows['image_id'].iloc[i]} is not in {labels}")
    boxed = set(zip(rows["image_id"], rows["class_id"], strict=True))
    _compare(place, rows, frame, labels)
    named = frame[list(NIH_BOXES.findings)].to_numpy(bool)
    unknown = {name: tuple(label for label in np.flatnonzero(row).tolist() if (name, label) not in boxed)
               for name, row in zip(frame["image_id"], named, strict=True) if row.any()}
    frame = frame[_chosen(frame, rows, named, ids)].reset_index(drop=True)
    frames = image_frames(frame["image_id"].tolist(), images, None, options.workers, side=IMAGE_SIDE)
    frame = frame[~frame["image_id"].isin(frames.absent)].sort_values("image_id").reset_index(drop=True)
    refuse_smaller_frame(annotations, rows, frames)
    rows = with_empty_images(rows[rows["image_id"].isin(frame["image_id"])], frame["image_id"])
    records = to_records(place, rows, frames, NIH_BOXES, unknown, clip=_MARGIN)
    parts = frame.pop("split").to_numpy(str) if "split" in frame else None
    return Annotations(frame, label_matrix(records), frame["patient"].to_numpy(), records, parts=parts)


def _compare(place: Place, rows: pd.DataFrame, frame: pd.DataFrame, labels: str | Path) -> None:
    """Refuse a box on an image without findings by its labels; one of another finding is logged."""
    given = frame.set_index("image_id").loc[rows["image_id"]]
    normal = given[str(NIH.no_finding)].to_numpy() == 1
    refuse_row(place, normal, lambda i: f"image {rows['image_id'].iloc[i]} has a box of "
               f"{NIH_BOXES.findings[rows['class_id'].iloc[i]]}, but {labels} has {NIH.no_finding!r}")
    columns = given[list(NIH_BOXES.findings)].to_numpy()
    without = np.flatnonzero(columns[np.arange(len(rows)), rows["class_id"].to_numpy()] == 0)
    if len(without):
        log.warning("%s: the first of %d boxes of a finding that the labels of their image do not name",
                    place(int(without[0])), len(without))


def _chosen(
    frame: pd.DataFrame, rows: pd.DataFrame, named: NDArray[np.bool_], ids: str | Path | None
) -> NDArray[np.bool_]:
    """(N,) the images to take."""
    if ids is None:
        return frame["image_id"].isin(rows["image_id"]).to_numpy() | ~named.any(axis=1)
    wanted = pd.Series([image_id_of(name) for name in read_names([str(ids)])])
    missing = wanted[~wanted.isin(frame["image_id"])]
    if len(missing):
        raise InputError(f"{ids}: {len(missing)} images are not in the label table, the first is "
                         f"{missing.iloc[0]}")
    return frame["image_id"].isin(wanted).to_numpy()


def _read_labels(path: str | Path) -> pd.DataFrame:
    """One row per image: image_id, patient, fold, 0/1 per label of NIH, and split where the table has it."""
    frame = read_labels(path) if "Finding Labels" in read_csv(path) else _read_cut(path)
    frame.insert(0, "image_id", frame.pop("image").map(image_id_of))
    refuse_first(path, frame["image_id"].duplicated(), lambda i:
                 f"image {frame['image_id'].iloc[i]} is repeated, expected a file for each")
    return frame


def _read_cut(path: str | Path) -> pd.DataFrame:
    """The table of a cut of the data set: image, patient, labels and perhaps split."""
    table = read_csv(path, ["image", "patient", "labels"])
    refuse_first(path, table["image"].duplicated(), lambda i: f"image {table['image'].iloc[i]} is repeated")
    refuse_first(path, table["labels"].isna(), lambda i: f"image {table['image'].iloc[i]} has no labels, "
                 f"expected some of {'|'.join(NIH.findings)}, or {NIH.no_finding}")
    labels = pd.DataFrame(label_matrix_of_texts(path, table["labels"].astype(str)), columns=list(NIH.classes))
    facts = table[["image", "patient", *(["split"] if "split" in table else [])]]
    if "split" in table:
        refuse_first(path, ~table["split"].isin(_PARTS), lambda i:
                     f"split {table['split'].iloc[i]!r}, expected one of {', '.join(_PARTS)}")
    return pd.concat([facts, labels], axis=1)


def _read_boxes(path: str | Path) -> pd.DataFrame:
    """image_id, class_id and corners of each box."""
    table = read_csv(path, ["image"]) if _is_cut(path) else None
    if table is None:
        images, names, corners = read_box_table(path)
        edges = xywh_to_xyxy(corners)
    else:
        refuse_first(path, _in_another_frame(table), lambda i: "box in a frame of "
                     f"{table['width'].iloc[i]} x {table['height'].iloc[i]}, expected {IMAGE_SIDE} x "
                     f"{IMAGE_SIDE}")
        images, names = table["image"], table["class"]
        edges = table[EDGES].apply(as_numbers).to_numpy()
    ids = class_ids(row_of(path), names, NIH_BOXES, NAMES)
    rows = pd.DataFrame(edges, columns=EDGES)
    return rows.assign(image_id=images.map(image_id_of), class_id=ids)


def _is_cut(path: str | Path) -> bool:
    return set(EDGES) <= set(read_csv(path))


def _in_another_frame(table: pd.DataFrame) -> NDArray[np.bool_]:
    sides = [as_numbers(table[side]) for side in ("width", "height") if side in table]
    return np.any([side != IMAGE_SIDE for side in sides], axis=0) if sides else np.zeros(len(table), bool)


def summary(
    annotations: Annotations, fold_of: NDArray[np.int64], options: Conversion, out: Path
) -> list[str]:
    """Counts of images and boxes, compared with the published ones, in lines."""
    boxes = [len(record.truth) for record in annotations.records]
    counts = {"boxes": sum(boxes), "images with boxes": sum(count > 0 for count in boxes)}
    return [*summary_of_boxes(annotations, fold_of, options, out), *compared(counts, _PUBLISHED)]


_CUT_BOXES = Table("a table of boxes of NIH's images", ("image", "class", *EDGES))
_CUT_LABELS = Table("a table of labels of NIH's images", ("image", "patient", "labels"))
RELEASE = Release("nih-boxes", NIH_BOXES, read, summary, {
    "annotations": (BOX_TABLE, _CUT_BOXES), "labels": (LABEL_TABLE, _CUT_LABELS)})
