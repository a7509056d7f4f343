"""VinBigData's tables: readers' boxes, checked; a consensus record per image; the share of readers per class.

The competition "VinBigData Chest X-ray Abnormalities Detection" (Kaggle, 2021): 15,000 training images, each
read by three of 17 readers. The same columns without ``rad_id`` are a consensus of one box per finding.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.box_rows import EDGES, class_ids, row_of
from vindr_det.data.consensus import Consensus, check_options, fuse_readers
from vindr_det.data.folds import label_matrix
from vindr_det.data.image_frames import read_patients
from vindr_det.data.reader_column import refuse_unnamed_readers
from vindr_det.data.release import NO_FOLD, Annotations, Conversion, Release, Table
from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.prepared_folder import failed_images
from vindr_det.imaging.sizes import read_sizes
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import CLASS_NAMES, VINBIGDATA, LabelSet
from vindr_det.structures.records import Record
from vindr_det.tables import as_numbers, read_csv, refuse_first, require_texts, without_repeats

#: The reader's name in a table that has no readers.
CONSENSUS = "consensus"
#: They drew almost all boxes of VinBigData's training set, and none of the test set's.
FREQUENT_READERS = ("R8", "R9", "R10")
_MANY = 20
# Pixels by which a scaled and rounded corner may exceed the image.
_ROUNDING = 0.5

log = logging.getLogger(__name__)


def read(
    options: Conversion, annotations: str | Path, meta: str | Path, images: str | Path | None = None,
    patients: str | Path | None = None,
) -> Annotations:
    """VinBigData's annotations, as conversion takes them.

    Args:
        options: of the consensus, and which readers are frequent.
        annotations: train.csv; see :func:`read_annotations`.
        meta: sizes of the originals.
        images: folder in which every image must exist that could be prepared; its file names are then used.
        patients: table of image_id and patient_id.

    Raises:
        InputError: the tables are faulty, or an image is missing.
    """
    files = None if images is None else {key: path.name for key, path in list_images(images).items()}
    sizes, frame = read_data_set(annotations, meta, images, files)
    records = to_records(frame, sizes, options.fusion, options.iou_thr, options.min_readers)
    readers = to_records(frame, sizes, "none")
    if files is not None:
        records, readers = (_with_files(part, files, images) for part in (records, readers))
    owners = None if patients is None else read_patients(patients, [record.image_id for record in records])
    held_out = rare_images(frame, records, options) if options.frequent else None
    return Annotations(labels_of_readers(frame, records, owners), label_matrix(records), owners, records,
                       reader_records=readers, held_out=held_out)


def summary(
    annotations: Annotations, fold_of: NDArray[np.int64], options: Conversion, out: Path
) -> list[str]:
    """Counts of images, boxes and held-out images, in lines."""
    records = annotations.records
    boxes, normal = sum(len(record.truth) for record in records), sum(record.normal for record in records)
    lines = [f"{len(records)} images ({normal} normal), {boxes} boxes, {options.folds} folds in {out}"]
    drawn_on = (annotations.labels[list(VINBIGDATA.findings)] > 0).any(axis=1).sum()
    if emptied := drawn_on - (len(records) - normal):
        lines.append(f"{emptied} images lost all their boxes to --min-readers {options.min_readers} and "
                     "count as normal")
    if options.frequent:
        held = [record for record, fold in zip(records, fold_of, strict=True) if fold == NO_FOLD]
        lines.append(f"rare readers: {len(held)} images ({sum(r.normal for r in held)} normal) that "
                     f"none of {', '.join(options.frequent)} read, held out of all folds")
    return lines


RELEASE = Release("vinbigdata", VINBIGDATA, read, summary, {"annotations": (
    Table("VinBigData's train.csv", ("image_id", "class_id", *EDGES), usual=("class_name", "rad_id")),)})


def read_data_set(
    annotations: str | Path, meta: str | Path, images: str | Path | None = None,
    files: Collection[str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sizes and annotations, without images that ``vindr-det prepare`` could not read, which is logged.

    Args:
        annotations: VinBigData's annotation table.
        meta: sizes of the originals; a ``qc.csv`` beside it lists what could not be read.
        images: folder of the images, whose ``qc.csv`` lists it too.
        files: the ids of the images in it; None where they need not exist.

    Raises:
        InputError: the tables are faulty, or an image has no size and no reason for that.
    """
    sizes = read_sizes(meta)
    failed = failed_images(Path(meta).parent, *([images] if images is not None else []))
    absent = failed.difference(sizes.index if files is None else set(sizes.index).intersection(files))
    named = read_csv(annotations, ["image_id"])["image_id"].unique() if absent else ()
    gone = sorted(absent.intersection(named))
    if gone:
        log.warning("%d annotated images could not be prepared (qc.csv) and are left out: %s%s", len(gone),
                    ", ".join(gone[:_MANY]), " ..." if len(gone) > _MANY else "")
    return sizes, read_annotations(annotations, sizes, absent)


def _with_files(records: list[Record], files: dict[str, str], folder: str | Path | None) -> list[Record]:
    missing = [record.image_id for record in records if record.image_id not in files]
    if missing:
        raise InputError(f"{folder}: {len(missing)} annotated images are missing, the first is {missing[0]}; "
                         "see qc.csv of their preparation, whose failed images are left out")
    return [replace(record, file_name=files[record.image_id]) for record in records]


def labels_of_readers(
    frame: pd.DataFrame, records: Sequence[Record], patients: NDArray | None, label_set: LabelSet = VINBIGDATA
) -> pd.DataFrame:
    """image_id, patient where known, fold, and for each class the share of the image's readers.

    Args:
        frame: of :func:`read_annotations`.
        records: of the same images.
        patients: (N,) of the records; None where they are not known.
        label_set: of the class ids.
    """
    ids = [record.image_id for record in records]
    votes = frame.drop_duplicates(["image_id", "rad_id", "class_id"]).groupby(["image_id", "class_id"]).size()
    columns = range(len(label_set.classes))
    votes = votes.unstack(fill_value=0).reindex(index=ids, columns=columns, fill_value=0)
    readers = frame.groupby("image_id")["rad_id"].nunique().reindex(ids)
    shares = votes.div(readers, axis=0).round(4).set_axis(list(label_set.classes), axis=1)
    owners = {} if patients is None else {"patient": patients}
    return pd.DataFrame({"image_id": ids, **owners, "fold": NO_FOLD}).join(shares.reset_index(drop=True))


def rare_images(frame: pd.DataFrame, records: Sequence[Record], options: Conversion) -> NDArray[np.bool_]:
    """(N,) images that none of the frequent readers read: all abnormal ones and a share of the normal.

    The normal ones are drawn so that their share is the data set's; by itself almost every normal
    image is one of rare readers.

    Raises:
        InputError: a frequent reader is not in the table.
    """
    unknown = set(options.frequent) - set(frame["rad_id"])
    if unknown:
        raise InputError(f"--reader-groups {min(unknown)}: no such reader, expected some of "
                         f"{', '.join(sorted(set(frame['rad_id'])))}")
    often = set(frame.loc[frame["rad_id"].isin(options.frequent), "image_id"])
    rare = np.array([record.image_id not in often for record in records])
    normal = np.array([record.normal for record in records])
    share = normal.mean()
    wanted = round((rare & ~normal).sum() * share / (1 - share)) if share < 1 else 0
    candidates = np.flatnonzero(rare & normal)
    chosen = np.random.default_rng(options.seed).permutation(candidates)[:wanted]
    rare &= ~normal
    rare[chosen] = True
    return rare


def read_annotations(
    path: str | Path, sizes: pd.DataFrame | None = None, without: Collection[str] = (),
    label_set: LabelSet = VINBIGDATA,
) -> pd.DataFrame:
    """A VinBigData table, checked; datasets/README.md lists what is refused and what is repaired.

    Args:
        path: CSV with image_id, class_id, x_min, y_min, x_max, y_max, and rad_id where several
            readers drew; without rad_id the table is taken for a consensus.
        sizes: as of :func:`read_sizes`; None skips the checks that need them.
        without: images to leave out; they need no size.
        label_set: another than VinBigData's has class_name in the place of class_id.

    Returns:
        One row per box or "no finding" mark: image_id, class_id (int), rad_id, x_min .. y_max
        (float, original pixels; NaN for class 14).

    Raises:
        InputError: names the row, the value and what was expected.
    """
    by_id = label_set is VINBIGDATA
    frame = read_csv(path, ["image_id", "class_id" if by_id else "class_name", *EDGES])
    frame["class_id"] = (_class_ids(path, frame) if by_id
                         else class_ids(row_of(path), frame["class_name"], label_set))
    normal = frame["class_id"] == label_set.no_finding_id
    mark = f"class {label_set.no_finding_id} ({label_set.no_finding})"
    frame[EDGES] = _corners(path, frame, normal, mark)
    _set_readers(path, frame, by_id)
    if sizes is not None:
        frame[EDGES] = _inside(path, frame, sizes, without)
    _check_boxes(path, frame, ~normal)
    _check_no_findings(path, frame, normal, mark, by_id)
    rows = without_repeats(path, frame[["image_id", "class_id", "rad_id", *EDGES]])
    return rows[~rows["image_id"].isin(without)].reset_index(drop=True)


def _set_readers(path: str | Path, frame: pd.DataFrame, check: bool) -> None:
    """The readers' names, or :data:`CONSENSUS` where the table has no column for them."""
    if "rad_id" in frame:
        require_texts(path, frame, ["rad_id"])
        return
    if check:
        refuse_unnamed_readers(path, frame)
    frame["rad_id"] = CONSENSUS


def _class_ids(path: str | Path, frame: pd.DataFrame) -> pd.Series:
    ids = as_numbers(frame["class_id"])
    refuse_first(path, ~ids.isin(range(len(CLASS_NAMES))), lambda i:
                 f"class_id {frame['class_id'].iloc[i]} is unknown, expected 0..14")
    ids = ids.astype(int)
    if "class_name" in frame:
        expected = ids.map(dict(enumerate(CLASS_NAMES)))
        differ = frame["class_name"].str.casefold() != expected.str.casefold()
        refuse_first(path, differ, lambda i:
                     f"class_name {frame['class_name'].iloc[i]!r} does not belong to class_id "
                     f"{ids.iloc[i]}, expected {expected.iloc[i]!r}")
    return ids


def _corners(path: str | Path, frame: pd.DataFrame, normal: pd.Series, mark: str) -> pd.DataFrame:
    """The four corners as floats; NaN where class 14 has none."""
    given = frame[EDGES]
    corners = given.apply(as_numbers)
    refuse_first(path, ((corners.isna() & given.notna()) | np.isinf(corners)).any(axis=1), lambda i:
                 f"box [{', '.join(map(str, given.iloc[i]))}], expected four finite numbers")
    refuse_first(path, (corners < -_ROUNDING).any(axis=1), lambda i: f"box {corners.iloc[i].tolist()} "
                 f"leaves image {frame['image_id'].iloc[i]}, expected 0 or more")
    empty = corners.isna().all(axis=1) | _is_mark(corners)
    refuse_first(path, normal & ~empty, lambda i: f"{mark} has the box "
                 f"{corners.iloc[i].tolist()}, expected none, or 0 0 1 1")
    return corners.clip(lower=0).mask(normal)


def _is_mark(corners: pd.DataFrame) -> pd.Series:
    """Whether a box is the competition's of class 14, or zeros, which often stand for an empty one."""
    return (corners[["x_min", "y_min"]] == 0).all(axis=1) & (
        (corners[["x_max", "y_max"]] == 1).all(axis=1) | (corners[["x_max", "y_max"]] == 0).all(axis=1))


def _check_boxes(path: str | Path, frame: pd.DataFrame, finding: pd.Series) -> None:
    corners = frame[EDGES]
    refuse_first(path, finding & corners.isna().any(axis=1), lambda i:
                 f"box {corners.iloc[i].tolist()} is incomplete, expected four numbers")
    crossed = (corners["x_min"] >= corners["x_max"]) | (corners["y_min"] >= corners["y_max"])
    refuse_first(path, finding & crossed, lambda i:
                 f"box {corners.iloc[i].tolist()} has x_min >= x_max or y_min >= y_max")


def _inside(
    path: str | Path, frame: pd.DataFrame, sizes: pd.DataFrame, without: Collection[str]
) -> pd.DataFrame:
    """The corners, clipped where rounding moved them beyond the image."""
    unknown = ~frame["image_id"].isin(sizes.index) & ~frame["image_id"].isin(without)
    refuse_first(path, unknown, lambda i: f"image_id {frame['image_id'].iloc[i]} has no size in "
                 "the size table; a qc.csv beside it lists images that could not be prepared")
    corners = frame[EDGES]
    ends = sizes.reindex(frame["image_id"])[["width", "height"]].to_numpy(float)[:, [0, 1, 0, 1]]
    refuse_first(path, (corners > ends + _ROUNDING).any(axis=1), lambda i:
                 f"box {corners.iloc[i].tolist()} leaves image {frame['image_id'].iloc[i]} of width "
                 f"{ends[i, 0]:g} and height {ends[i, 1]:g}")
    return corners.clip(upper=pd.DataFrame(ends, corners.index, corners.columns))


def _check_no_findings(
    path: str | Path, frame: pd.DataFrame, normal: pd.Series, mark: str, refuse: bool
) -> None:
    """A reader marks an image as normal or draws boxes, not both; else the mark is refused or ignored."""
    keys = pd.MultiIndex.from_frame(frame[["image_id", "rad_id"]])
    both = normal & keys.isin(keys[~normal])
    if not refuse and both.any():
        log.warning("%s: %d rows of %s beside boxes of the same reader do not count", path, both.sum(), mark)
        return
    refuse_first(path, both, lambda i:
                 f"reader {frame['rad_id'].iloc[i]} has {mark} on image "
                 f"{frame['image_id'].iloc[i]} beside findings, expected either "
                 "(several readers: a column rad_id)")


def furthest_corners(frame: pd.DataFrame) -> pd.DataFrame:
    """Sizes that hold all boxes, in the form of :func:`read_sizes`, where the real ones are not known."""
    reach = frame.groupby("image_id")[["y_max", "x_max"]].max().fillna(1)
    return np.ceil(reach).astype(int).set_axis(["height", "width"], axis=1)


def to_records(
    frame: pd.DataFrame, sizes: pd.DataFrame, fusion: str = "wbf", iou_thr: float = 0.4,
    min_readers: int = 1, label_set: LabelSet = VINBIGDATA,
) -> list[Record]:
    """Annotations to one :class:`Record` per image, sorted by image id, with files ``<image_id>.png``.

    Boxes are fused in the order of the readers' names, so that the order of the rows does not matter. The
    boxes of a table with a single reader, such as a consensus, are not fused.

    Raises:
        InputError: an option is out of range; see :func:`vindr_det.data.consensus.fuse_readers`.
    """
    check_options(fusion, iou_thr, min_readers)
    count = frame["rad_id"].nunique()
    if min_readers > max(count, 1):
        raise InputError(f"--min-readers {min_readers}: the table has {count} reader{'s' * (count > 1)}, "
                         f"expected at most {count}")
    fusion = fusion if count > 1 else "none"
    ordered = frame.sort_values(["image_id", "rad_id"], kind="stable")
    images, readers = ordered["image_id"].to_numpy(str), ordered["rad_id"].to_numpy(str)
    boxes, labels = ordered[EDGES].to_numpy(float), ordered["class_id"].to_numpy()
    size_of = dict(zip(sizes.index, sizes[["height", "width"]].to_numpy().tolist(), strict=True))
    bounds = [0, *(np.flatnonzero(images[1:] != images[:-1]) + 1).tolist(), len(images)]
    records, nothing = [], Consensus(Predictions(label_set=label_set))
    for start, stop in pairwise(bounds if len(images) else []):
        image_id, of = str(images[start]), len(set(readers[start:stop].tolist()))
        drawn = start + np.flatnonzero(labels[start:stop] != label_set.no_finding_id)
        fused = fuse_readers(boxes[drawn], labels[drawn], readers[drawn].tolist(), of, fusion,
                             iou_thr, min_readers, label_set) if len(drawn) else nothing
        height, width = size_of[image_id]
        records.append(Record(image_id, f"{image_id}.png", height, width, *fused))
    return records
