"""The conversion of one data set from VinBigData's tables to COCO files and folds."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.coco import part, to_coco
from vindr_det.data.conversion_files import replaced_files
from vindr_det.data.folds import assign_folds, check_disjoint_patients, label_matrix
from vindr_det.data.vinbigdata import read_annotations, to_records
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.sizes import read_sizes
from vindr_det.imaging.status import failed_images
from vindr_det.structures.label_sets import CLASS_NAMES
from vindr_det.structures.records import Record
from vindr_det.tables import read_csv, refuse_first, write_csv

#: They drew almost all boxes of VinBigData's training set, and none of the test set's.
FREQUENT_READERS = ("R8", "R9", "R10")
#: The fold of images that belong to none: those of rare readers.
NO_FOLD = -1
_MANY = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """What to make of a table; see :func:`vindr_det.data.consensus.fuse_readers` for the first three.

    Attributes:
        fusion: ``wbf``, ``nms`` or ``none``.
        iou_thr: boxes that overlap more are one.
        min_readers: keep boxes that at least so many readers drew.
        folds: how many.
        seed: of the folds.
        frequent: hold out images that none of these readers read; empty holds out none.
        label_sets: also write the training sets of boxes that at least 2, 3, ... readers drew.
    """

    fusion: str = "wbf"
    iou_thr: float = 0.4
    min_readers: int = 1
    folds: int = 5
    seed: int = 0
    frequent: tuple[str, ...] = ()
    label_sets: bool = False


def convert(
    csv: str | Path, meta: str | Path, out: str | Path, options: Conversion | None = None, *,
    images: str | Path | None = None, patients: str | Path | None = None,
) -> str:
    """Write the COCO files, ``folds.csv`` (image_id, fold) and ``labels.csv`` to ``out``; returns a
    summary.

    Args:
        csv: VinBigData's annotation table.
        meta: sizes of the originals.
        out: folder to create.
        how: the options; None takes the defaults.
        images: folder in which every image must exist that could be prepared; its file names are then used.
        patients: table of image_id and patient_id; a patient's images then share a fold.

    Raises:
        InputError: the tables are faulty, or an image is missing.
    """
    options = options or Conversion()
    files = _files(images) if images is not None else None
    sizes, frame = read_data_set(csv, meta, images, files)
    records = to_records(frame, sizes, options.fusion, options.iou_thr, options.min_readers)
    readers = to_records(frame, sizes, "none")
    if files is not None:
        records, readers = (_with_files(part, files, images) for part in (records, readers))
    rare = _rare_images(frame, records, options)
    groups = _patients(patients, records) if patients is not None else None
    fold_of = _fold_of(records, rare, groups, options)
    ids = [record.image_id for record in records]
    with replaced_files(out) as folder:
        write_json(folder / "instances_readers.json", to_coco(readers))
        write_csv(folder / "labels.csv", _labels(frame, records, fold_of, groups))
        _write_coco(folder, records, fold_of, groups, options)
        write_csv(folder / "folds.csv", pd.DataFrame({"image_id": ids, "fold": fold_of}))
    return _summary(frame, records, fold_of, options, Path(out))


def _labels(
    frame: pd.DataFrame, records: Sequence[Record], fold_of: NDArray[np.int64], groups: Sequence[str] | None
) -> pd.DataFrame:
    """image_id, patient where known, fold, and for each of 15 classes the share of the image's readers."""
    ids = [record.image_id for record in records]
    said = frame.drop_duplicates(["image_id", "rad_id", "class_id"])
    votes = said.groupby(["image_id", "class_id"]).size().unstack(fill_value=0)
    votes = votes.reindex(index=ids, columns=range(len(CLASS_NAMES)), fill_value=0)
    readers = frame.groupby("image_id")["rad_id"].nunique().reindex(ids)
    shares = votes.div(readers, axis=0).round(4).set_axis(list(CLASS_NAMES), axis=1)
    facts = {"fold": fold_of} if groups is None else {"patient": groups, "fold": fold_of}
    return pd.DataFrame({"image_id": ids, **facts}).join(shares.reset_index(drop=True))


def read_data_set(
    csv: str | Path, meta: str | Path, images: str | Path | None = None, files: Collection[str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sizes and annotations, without images that ``prepare_images.py`` could not read, which is logged.

    Args:
        csv: VinBigData's annotation table.
        meta: sizes of the originals; a ``qc.csv`` beside it tells what could not be read.
        images: folder of the images, whose ``qc.csv`` tells too.
        files: the ids of the images in it; None where they are not asked for.

    Raises:
        InputError: the tables are faulty, or an image has no size and no reason for that.
    """
    sizes = read_sizes(meta)
    failed = failed_images(Path(meta).parent, *([images] if images is not None else []))
    absent = {one for one in failed if one not in sizes.index or (files is not None and one not in files)}
    named = read_csv(csv, ["image_id"])["image_id"].unique() if absent else ()
    gone = sorted(absent.intersection(named))
    if gone:
        log.warning("%d annotated images could not be prepared (qc.csv) and are left out: %s%s", len(gone),
                    ", ".join(gone[:_MANY]), " ..." if len(gone) > _MANY else "")
    return sizes, read_annotations(csv, sizes, absent)


def _files(folder: str | Path) -> dict[str, str]:
    return {image_id: path.name for image_id, path in list_images(folder).items()}


def _with_files(records: list[Record], files: dict[str, str], folder: str | Path | None) -> list[Record]:
    missing = [record.image_id for record in records if record.image_id not in files]
    if missing:
        raise InputError(f"{folder}: {len(missing)} annotated images are missing, the first is {missing[0]}; "
                         "qc.csv of their preparation tells why, and those that failed there are left out")
    return [replace(record, file_name=files[record.image_id]) for record in records]


def _patients(path: str | Path, records: Sequence[Record]) -> list[str]:
    table = read_csv(path, ["image_id", "patient_id"])
    refuse_first(path, table["image_id"].duplicated(), lambda i:
                 f"image_id {table['image_id'].iloc[i]} is repeated")
    patient_of = dict(zip(table["image_id"], table["patient_id"], strict=True))
    missing = [record.image_id for record in records if record.image_id not in patient_of]
    if missing:
        raise InputError(f"{path}: {len(missing)} images have no patient, the first is {missing[0]}")
    return [patient_of[record.image_id] for record in records]


def _rare_images(frame: pd.DataFrame, records: Sequence[Record], options: Conversion) -> NDArray[np.bool_]:
    """Images that none of the frequent readers read: all abnormal ones and a share of the normal.

    The normal ones are drawn so that their share is the data set's; by itself almost every normal
    image is one of rare readers.
    """
    ids = np.array([record.image_id for record in records])
    if not options.frequent:
        return np.zeros(len(ids), dtype=bool)
    unknown = set(options.frequent) - set(frame["rad_id"])
    if unknown:
        raise InputError(f"--reader-groups {min(unknown)}: no such reader, expected some of "
                         f"{', '.join(sorted(set(frame['rad_id'])))}")
    often = set(frame.loc[frame["rad_id"].isin(options.frequent), "image_id"])
    rare = np.array([image_id not in often for image_id in ids])
    normal = np.array([record.normal for record in records])
    share = normal.mean()
    wanted = round((rare & ~normal).sum() * share / (1 - share)) if share < 1 else 0
    candidates = np.flatnonzero(rare & normal)
    chosen = np.random.default_rng(options.seed).permutation(candidates)[:wanted]
    rare &= ~normal
    rare[chosen] = True
    return rare


def _fold_of(
    records: Sequence[Record], rare: NDArray[np.bool_], groups: Sequence[str] | None, options: Conversion
) -> NDArray[np.int64]:
    if groups is not None:  # a patient with one held-out image is held out
        rare = np.isin(groups, np.array(groups)[rare])
    fold_of = np.full(len(records), NO_FOLD, np.int64)
    patients = None if groups is None else np.array(groups)[~rare]
    kept = [record for record, out in zip(records, rare, strict=True) if not out]
    fold_of[~rare] = assign_folds(label_matrix(kept), options.folds, options.seed, patients)
    return fold_of


def _write_coco(
    out: Path, records: Sequence[Record], fold_of: NDArray[np.int64], groups: Sequence[str] | None,
    options: Conversion,
) -> None:
    who = np.array([record.image_id for record in records] if groups is None else groups)
    what = "image" if groups is None else "patient"
    check_disjoint_patients({f"fold {fold}": who[fold_of == fold] for fold in range(NO_FOLD, options.folds)}, what)

    whole = to_coco(records)  # of which all files are parts, so that an image keeps its id

    def write(name: str, mask: NDArray[np.bool_], min_count: int = 1) -> None:
        name = f"{name}_min{min_count}" if min_count > 1 else name
        write_json(out / f"instances_{name}.json", part(whole, mask.tolist(), min_count))

    most = max((len(names) for record in records for names in record.readers), default=1)
    sets = (1, *(range(max(2, options.min_readers + 1), most + 1) if options.label_sets else ()))
    for min_count in sets:
        write("all", np.ones(len(records), dtype=bool), min_count)
        for fold in range(options.folds):
            write(f"train_fold{fold}", (fold_of != fold) & (fold_of != NO_FOLD), min_count)
    for fold in range(options.folds):
        write(f"val_fold{fold}", fold_of == fold)
    if options.frequent:
        write("val_rare_readers", fold_of == NO_FOLD)


def _summary(
    frame: pd.DataFrame, records: Sequence[Record], fold_of: NDArray[np.int64], options: Conversion, out: Path
) -> str:
    boxes = sum(len(record.truth) for record in records)
    normal = sum(record.normal for record in records)
    lines = [f"{len(records)} images ({normal} normal), {boxes} boxes, {options.folds} folds in {out}"]
    emptied = frame.loc[frame["x_min"].notna(), "image_id"].nunique() - (len(records) - normal)
    if emptied:
        lines.append(f"{emptied} images lost all their boxes to --min-readers {options.min_readers} and "
                     "count as normal")
    if options.frequent:
        held = [record for record, fold in zip(records, fold_of, strict=True) if fold == NO_FOLD]
        lines.append(f"rare readers: {len(held)} images ({sum(r.normal for r in held)} normal) that "
                     f"none of {', '.join(options.frequent)} read, held out of all folds")
    return "\n".join(lines)
