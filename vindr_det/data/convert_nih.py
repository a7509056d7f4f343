"""The conversion of NIH ChestX-ray14's tables to labels, folds by patient, boxes and lists."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data import nih
from vindr_det.data.coco import to_coco
from vindr_det.data.conversion_files import replaced_files
from vindr_det.data.folds import assign_folds, check_disjoint_patients
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.structures.label_sets import NIH_LABELS
from vindr_det.structures.records import Record
from vindr_det.tables import write_csv

ALL_LABELS = (*NIH_LABELS, nih.NO_FINDING)
_TRAINING = ("train", "val")


def convert_nih(
    labels: str | Path, out: str | Path, *, boxes: str | Path | None = None,
    lists: str | None = None, lists_dir: str | Path | None = None, folds: int = 5, seed: int = 0,
) -> str:
    """Write ``labels.csv``, ``instances_bbox.json`` and a CSV a list to ``out``; returns a summary.

    A list's train and val parts get folds of their own, by patient, so that they are even; test
    parts have none (-1).

    Args:
        labels: Data_Entry_2017.csv or its version of 2020.
        out: folder to create.
        boxes: BBox_List_2017.csv.
        lists: ``cadlab`` or ``chexnet``.
        lists_dir: the folder of the lists.
        folds: how many.
        seed: of the folds.

    Raises:
        InputError: a table is faulty, or a patient would be in two parts.
    """
    if (lists is None) != (lists_dir is None):
        raise InputError("--lists and --lists-dir go together: which lists, and their folder")
    frame = nih.read_labels(labels)
    records = nih.read_boxes(boxes) if boxes is not None else []
    parts = nih.read_lists(lists_dir, lists) if lists is not None and lists_dir is not None else {}
    for name, part in parts.items():
        _require_known(f"{lists} {name}", part["image"], frame)
    _require_known(str(boxes), [record.file_name for record in records], frame)
    frame["fold"] = _folds(frame, ALL_LABELS, folds, seed)
    parts = _with_folds(parts, folds, seed)
    with replaced_files(out) as folder:
        write_csv(folder / "labels.csv", frame)
        if boxes is not None:
            write_json(folder / "instances_bbox.json", to_coco(records, NIH_LABELS))
        for name, part in parts.items():
            write_csv(folder / f"{name}.csv", part)
        if parts:
            write_csv(folder / "train_val.csv", pd.concat([parts[name] for name in _TRAINING]))
    return "\n".join([_labels_summary(frame, folds), *_boxes_summary(records, frame),
                      *_lists_summary(parts, frame, lists)])


def _require_known(what: str, images, frame: pd.DataFrame) -> None:
    missing = pd.Series(images, dtype=object)
    missing = missing[~missing.isin(frame["image"])]
    if len(missing):
        raise InputError(f"{what}: {len(missing)} images are not in the label table, the first is "
                         f"{missing.iloc[0]}")


def _folds(frame: pd.DataFrame, columns, folds: int, seed: int) -> NDArray[np.int64]:
    patients = frame["patient"].to_numpy()
    fold_of = assign_folds(frame[list(columns)].to_numpy(np.int64), folds, seed, patients)
    check_disjoint_patients({f"fold {fold}": patients[fold_of == fold] for fold in range(folds)}, "patient")
    return fold_of


def _with_folds(parts: dict[str, pd.DataFrame], folds: int, seed: int) -> dict[str, pd.DataFrame]:
    if not parts:
        return {}
    pooled = pd.concat([parts[name] for name in _TRAINING])
    columns = [name for name in pooled if name not in ("image", "patient")]
    fold_of = dict(zip(pooled["image"], _folds(pooled, columns, folds, seed), strict=True))
    return {name: part.assign(fold=part["image"].map(fold_of) if name in _TRAINING else -1)
            for name, part in parts.items()}


def _labels_summary(frame: pd.DataFrame, folds: int) -> str:
    counts = frame[list(ALL_LABELS)].sum()
    lines = [f"{len(frame)} images of {frame['patient'].nunique()} patients, {folds} folds by patient"]
    differ = [f"{name} {counts[name]} (published: {number})"
              for name, number in nih.PUBLISHED_COUNTS.items() if counts[name] != number]
    if not differ:
        return f"{lines[0]}; all 15 label counts are those of the published table of 2020"
    what = "another version of the table, or a part of it"
    return f"{lines[0]}; {what}, differs in {', '.join(differ)}"


def _boxes_summary(records: list[Record], frame: pd.DataFrame) -> list[str]:
    if not records:
        return []
    rows = frame.set_index("image")[list(NIH_LABELS)]
    pairs = [(record.file_name, NIH_LABELS[label]) for record in records
             for label in record.truth.labels.tolist()]
    without = sum(rows.loc[image, label] == 0 for image, label in pairs)
    return [f"{len(pairs)} boxes on {len(records)} images, {without} of a label that their image "
            "does not have in the table"]


def _lists_summary(
    parts: dict[str, pd.DataFrame], frame: pd.DataFrame, lists: str | None
) -> list[str]:
    lines = []
    for name, part in parts.items():
        line = f"{lists} {name}: {len(part)} images of {part['patient'].nunique()} patients"
        if nih.ABNORMAL in part:
            line += f", {part[nih.ABNORMAL].sum()} abnormal"
        else:
            line += f", {nih.disagreements(part, frame)} with other labels than the table's"
        lines.append(line)
    return lines
