"""The SIIM-FISABIO-RSNA COVID-19 detection challenge (2021): boxes of opacities, and labels of studies.

A study may have several images, of which often only one was given boxes: the others have "none" in the table
although the study is positive. An image without boxes is therefore normal only if the studies' labels say
that its study is negative for pneumonia; else, and without these labels, opacities are unknown on it.
"""

import ast
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.box_rows import (
    EDGES,
    Place,
    refuse_smaller_frame,
    row_of,
    to_records,
    with_empty_images,
)
from vindr_det.data.folds import label_matrix
from vindr_det.data.image_frames import image_frames
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
from vindr_det.structures.label_sets import SIIM_COVID, SIIM_COVID_STUDY
from vindr_det.tables import as_numbers, read_csv, refuse_first

#: Images of the published training table.
PUBLISHED: Mapping[str, int] = {"images": 6334}

_COLUMNS = ("id", "boxes", "label", "StudyInstanceUID")
_TEXTS = ("id", "StudyInstanceUID")
_BOX = ("x", "y", "width", "height")
# Pixels by which a corner in the label may differ from that of the boxes.
_ROUNDING = 1.0
_NEGATIVE = str(SIIM_COVID_STUDY.no_finding)

log = logging.getLogger(__name__)


def read(
    options: Conversion, annotations: str | Path, labels: str | Path | None = None,
    meta: list[str | Path] | None = None, images: str | Path | None = None,
) -> Annotations:
    """The training tables, as conversion takes them; a study stands for a patient.

    Args:
        options: of the folds.
        annotations: train_image_level.csv: id, boxes, label, StudyInstanceUID.
        labels: train_study_level.csv: id and a column of 0 and 1 per appearance; without it no image is known
            to be normal.
        meta: tables of the original sizes; None takes them from the files' headers.
        images: folder in which each image must exist, in its subfolders too; its file names are then used.

    Raises:
        InputError: a table is faulty, the two contradict each other, or an image is missing or has no size.
    """
    table = read_csv(annotations, _COLUMNS, texts=_TEXTS)
    place = row_of(annotations)
    names = _without_suffix(annotations, table["id"], "_image")
    studies = _without_suffix(annotations, table["StudyInstanceUID"], "_study")
    refuse_first(annotations, names.duplicated(), lambda i: f"image {names.iloc[i]} is repeated")
    boxes = [_boxes(place, i, text) for i, text in enumerate(table["boxes"])]
    refuse_first(annotations, [not _agree(drawn, str(label)) for drawn, label in
                               zip(boxes, table["label"], strict=True)], lambda i:
                 f"image {names.iloc[i]} has {len(boxes[i])} boxes and the label {table['label'].iloc[i]!r}, "
                 "expected opacity and the corners of each box, none without boxes")
    appearances = None if labels is None else _read_studies(labels, annotations, studies)
    _refuse_boxes_of_negative(annotations, names, studies, boxes, appearances)
    frames = image_frames(names.tolist(), images, meta, options.workers)
    rows = with_empty_images(_rows(names, boxes), names)
    refuse_smaller_frame(annotations, rows, frames)
    unknown = _unknown(names, studies, boxes, appearances)
    records = to_records(place, rows, frames, SIIM_COVID, unknown, suffix=".dcm")
    ids = [record.image_id for record in records]
    owners = pd.Series(studies.to_numpy(), index=names).reindex(ids)
    shares = boxes_in_labels(records, owners.to_numpy())
    if appearances is not None:
        shares = pd.concat([shares, appearances.reindex(owners).reset_index(drop=True)], axis=1)
    return Annotations(shares, label_matrix(records), owners.to_numpy(), records)


def _without_suffix(path: str | Path, column: pd.Series, suffix: str) -> pd.Series:
    names = column.str.removesuffix(suffix)
    refuse_first(path, names == "", lambda i:
                 f"{column.name} is {column.iloc[i]!r}, expected a name before {suffix}")
    return names


def _boxes(place: Place, row: int, text: object) -> list[list[float]]:
    """The boxes (x, y, width, height) of a Python list of dictionaries; none of an empty text."""
    if pd.isna(text) or not str(text).strip():
        return []
    try:
        return [[float(box[key]) for key in _BOX] for box in ast.literal_eval(str(text))]
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, ArithmeticError,
            RecursionError) as error:
        raise InputError(f"{place(row)}: boxes {str(text)[:80]!r}, expected a list of boxes with "
                         f"{', '.join(_BOX)}") from error


def _agree(boxes: list[list[float]], label: str) -> bool:
    """Whether a label has the boxes, as "opacity 1 x_min y_min x_max y_max" for each, or "none" without."""
    words = label.split()
    if not boxes:
        return words[:1] == ["none"]
    if words[::6] != ["opacity"] * len(boxes) or len(words) != 6 * len(boxes):
        return False
    given = as_numbers(pd.Series(words)).to_numpy().reshape(-1, 6)[:, 2:]
    corners = xywh_to_xyxy(boxes)
    return bool((np.abs(given - corners) <= _ROUNDING).all())


def _refuse_boxes_of_negative(
    path: str | Path, names: pd.Series, studies: pd.Series, boxes: list[list[list[float]]],
    appearances: pd.DataFrame | None,
) -> None:
    if appearances is not None:
        negative = appearances.loc[studies, _NEGATIVE].to_numpy() == 1
        refuse_first(path, negative & np.array([len(drawn) > 0 for drawn in boxes]), lambda i:
                     f"image {names.iloc[i]} has {len(boxes[i])} boxes, but its study {studies.iloc[i]} is "
                     f"{_NEGATIVE!r}")


def _rows(names: pd.Series, boxes: list[list[list[float]]]) -> pd.DataFrame:
    counts = [len(drawn) for drawn in boxes]
    corners = xywh_to_xyxy([box for drawn in boxes for box in drawn])
    positions = np.repeat(np.arange(len(names)), counts)
    return pd.DataFrame(corners, columns=EDGES, index=positions).assign(
        image_id=names.to_numpy()[positions], class_id=0)


def _unknown(
    names: pd.Series, studies: pd.Series, boxes: list[list[list[float]]], appearances: pd.DataFrame | None
) -> dict[str, tuple[int, ...]]:
    """Image id -> opacity, for images without boxes of studies that are not known to be negative, or that
    have boxes elsewhere."""
    drawn = np.array([len(rows) > 0 for rows in boxes])
    if appearances is None:
        if not drawn.all():
            log.warning("%d images have no box, and without --labels it is not known whether they are "
                        "normal: opacity is unknown there; the first is %s", (~drawn).sum(),
                        names[~drawn].iloc[0])
        return dict.fromkeys(names[~drawn], (0,))
    positive = studies.isin(studies[drawn]).to_numpy()
    positive = positive | (appearances.loc[studies, _NEGATIVE].to_numpy() == 0)
    return dict.fromkeys(names[positive & ~drawn], (0,))


def _read_studies(path: str | Path, annotations: str | Path, studies: pd.Series) -> pd.DataFrame:
    columns = list(SIIM_COVID_STUDY.classes)
    table = read_csv(path, ["id", *columns], texts=_TEXTS)
    names = _without_suffix(path, table["id"], "_study")
    refuse_first(path, names.duplicated(), lambda i: f"study {names.iloc[i]} is repeated")
    values = table[columns].apply(as_numbers)
    refuse_first(path, ~values.isin([0, 1]).all(axis=1) | (values.sum(axis=1) != 1), lambda i:
                 f"study {names.iloc[i]} has {table[columns].iloc[i].tolist()} for {', '.join(columns)}, "
                 "expected a single 1 and else 0")
    refuse_first(annotations, ~studies.isin(names), lambda i: f"study {studies.iloc[i]} is not in {path}")
    return values.astype(int).set_index(names.to_numpy())


def summary(
    annotations: Annotations, fold_of: NDArray[np.int64], options: Conversion, out: Path
) -> list[str]:
    """Counts of images and boxes, compared with the published ones, in lines."""
    counts = {"images": len(annotations.records)}
    return [*summary_of_boxes(annotations, fold_of, options, out), *compared(counts, PUBLISHED)]


RELEASE = Release("siim-covid", SIIM_COVID, read, summary, {
    "annotations": (Table("SIIM-COVID's train_image_level.csv", _COLUMNS),),
    "labels": (Table("SIIM-COVID's train_study_level.csv", ("id", *SIIM_COVID_STUDY.classes)),)})
