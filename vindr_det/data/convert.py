"""The conversion of any release to COCO files, folds by patient and image-level labels.

A new data set is one module with a ``RELEASE`` (:mod:`vindr_det.data.release`), named in :data:`RELEASES`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data import (
    chestx_det,
    coco_release,
    nih,
    nih_boxes,
    rsna,
    siim_covid,
    vinbigdata,
    vindr_cxr,
    yolo,
)
from vindr_det.data.coco import part, to_coco
from vindr_det.data.conversion_files import replaced_files
from vindr_det.data.folds import assign_folds, check_disjoint_patients
from vindr_det.data.release import NO_FOLD, TRAIN, Annotations, Conversion, Release, with_patients
from vindr_det.data.tables_given import require_own_tables
from vindr_det.data.yolo_files import write_yolo
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.tables import write_csv

#: name -> release.
RELEASES: Mapping[str, Release] = {release.name: release for release in (
    vinbigdata.RELEASE, nih.RELEASE, nih_boxes.RELEASE, vindr_cxr.CXR_RELEASE, vindr_cxr.PCXR_RELEASE,
    chestx_det.RELEASE, rsna.RELEASE, siim_covid.RELEASE, coco_release.RELEASE, yolo.RELEASE)}
#: The published lists that are trained and validated on, in folds of their own.
_TRAINING = ("train", "val")


def convert(
    release: str, out: str | Path, options: Conversion | None = None, **tables: Any
) -> str:
    """Read a release's tables and write its files to ``out``; returns a summary.

    - ``labels.csv``: one row per image with its fold and image-level labels.
    - Where boxes were drawn on every image: ``folds.csv`` (image_id, fold), ``instances_all.json``,
      ``instances_train_fold{k}.json``, ``instances_val_fold{k}.json``, and each reader's own boxes in
      ``instances_readers.json``. Else ``instances_bbox.json`` with the images that have boxes.
    - Of a release with parts, such as train and test, ``instances_<part>.json`` instead of all; folds are of
      the part train.
    - Of published lists: ``<name>.csv`` each, and ``train_val.csv``.

    Args:
        release: a key of :data:`RELEASES`.
        out: folder to create.
        options: None takes the defaults.
        tables: paths of the release's tables, by the names that its ``read`` gives them.

    Raises:
        InputError: the tables are faulty, an image is missing, or a patient would be in two parts.
    """
    options = options or Conversion()
    source = RELEASES[release]
    if options.copy and (options.to != "yolo" or tables.get("images") is None):
        raise InputError("--copy: copies images beside YOLO's labels, expected --to yolo and --images")
    require_own_tables(source, tables, RELEASES.values())
    annotations = with_patients(source.read(options, **tables))
    fold_of = _folds(annotations, options)
    if options.to == "yolo":
        return _yolo(source, out, annotations, fold_of, options, tables.get("images"))
    lists = _with_folds(annotations.lists, options)
    with replaced_files(out) as folder:
        write_csv(folder / "labels.csv", annotations.labels.assign(fold=fold_of))
        if annotations.boxes_complete:
            _write_folds(folder, annotations, fold_of, options)
        elif annotations.records:
            write_json(folder / "instances_bbox.json", to_coco(annotations.records))
        for name, table in lists.items():
            write_csv(folder / f"{name}.csv", table)
        if lists:
            write_csv(folder / "train_val.csv", pd.concat([lists[name] for name in _TRAINING]))
    return "\n".join(source.summary(annotations, fold_of, options, Path(out)))


def _yolo(
    source: Release, out: str | Path, annotations: Annotations, fold_of: NDArray[np.int64],
    options: Conversion, images: str | Path | None,
) -> str:
    if not annotations.boxes_complete or not annotations.records:
        raise InputError(f"--to yolo: {source.name} has labels of whole images, expected a format with boxes")
    line = write_yolo(out, annotations, fold_of, images, options.copy)
    return "\n".join([*source.summary(annotations, fold_of, options, Path(out)), line])


def _folds(annotations: Annotations, options: Conversion) -> NDArray[np.int64]:
    """Fold (N,) of each image, :data:`NO_FOLD` where it is held out; no patient is in two of them."""
    patients, held_out, parts = annotations.patients, annotations.held_out, annotations.parts
    if parts is not None:
        held_out = (parts != TRAIN) | (False if held_out is None else held_out)
        if patients is not None:
            check_disjoint_patients({name: patients[parts == name] for name in np.unique(parts)}, "patient")
    kept = np.ones(len(annotations.labels), dtype=bool) if held_out is None else ~held_out
    if patients is not None:  # a patient with one held-out image is held out
        kept = ~np.isin(patients, patients[~kept])
    fold_of = np.full(len(kept), NO_FOLD, np.int64)
    if kept.any():
        fold_of[kept] = assign_folds(annotations.strata[kept], options.folds, options.seed,
                                     None if patients is None else patients[kept])
    if patients is not None:
        check_disjoint_patients({f"fold {fold}": patients[fold_of == fold]
                                 for fold in range(NO_FOLD, options.folds)}, "patient")
    return fold_of


def _with_folds(lists: Mapping[str, pd.DataFrame], options: Conversion) -> dict[str, pd.DataFrame]:
    """The lists with a column ``fold``: train and val in even folds of their own, test in none."""
    if not lists:
        return {}
    pooled = pd.concat([lists[name] for name in _TRAINING])
    strata = pooled.drop(columns=["image", "patient"]).to_numpy(np.int64)
    folds = _folds(Annotations(pooled, strata, pooled["patient"].to_numpy()), options)
    fold_of = dict(zip(pooled["image"], folds, strict=True))
    return {name: table.assign(fold=table["image"].map(fold_of) if name in _TRAINING else NO_FOLD)
            for name, table in lists.items()}


def _write_folds(
    folder: Path, annotations: Annotations, fold_of: NDArray[np.int64], options: Conversion
) -> None:
    records = annotations.records
    whole = to_coco(records)  # of which all files are parts, so that an image keeps its id

    def write(name: str, mask: NDArray[np.bool_], min_count: int = 1) -> None:
        name = f"{name}_min{min_count}" if min_count > 1 else name
        write_json(folder / f"instances_{name}.json", part(whole, mask.tolist(), min_count))

    most = max((len(names) for record in records for names in record.readers), default=1)
    sets = (1, *(range(max(2, options.min_readers + 1), most + 1) if options.label_sets else ()))
    parts = np.full(len(records), "all") if annotations.parts is None else annotations.parts
    folds = range(fold_of.max(initial=NO_FOLD) + 1)
    for name in dict.fromkeys(parts.tolist()):
        for min_count in sets if name in (TRAIN, "all") else (1,):
            write(name, parts == name, min_count)
    for fold in folds:
        for min_count in sets:
            write(f"train_fold{fold}", (fold_of != fold) & (fold_of != NO_FOLD), min_count)
        write(f"val_fold{fold}", fold_of == fold)
    if annotations.held_out is not None:
        write("val_rare_readers", (fold_of == NO_FOLD) & np.isin(parts, (TRAIN, "all")))
    if annotations.reader_records:
        write_json(folder / "instances_readers.json", to_coco(annotations.reader_records))
    ids = [record.image_id for record in records]
    write_csv(folder / "folds.csv", pd.DataFrame({"image_id": ids, "fold": fold_of}))
