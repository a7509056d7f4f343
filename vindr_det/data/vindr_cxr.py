"""VinDr-CXR and VinDr-PCXR as PhysioNet releases them: boxes, labels of whole images, two parts.

VinDr-CXR: 15,000 training images, three readers each; 3,000 test images with the consensus of five, whose
table has no reader. 22 local labels have boxes, 6 global labels are of whole images. VinDr-PCXR, of children:
7,728 and 1,397 images of a reader each, 36 local and 15 global labels. Sizes are in the DICOM files' headers.
A finding that the labels name and that has no box is unknown on the image, as is one that no reader labeled:
the image is not normal.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.box_rows import EDGES, refuse_smaller_frame
from vindr_det.data.folds import label_matrix
from vindr_det.data.image_frames import ImageFrames, image_frames, read_patients
from vindr_det.data.release import (
    TRAIN,
    Annotations,
    Conversion,
    Release,
    Table,
    compared,
    summary_of_boxes,
)
from vindr_det.data.vinbigdata import CONSENSUS, labels_of_readers, rare_images, read_annotations, to_records
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import (
    VINDR_CXR,
    VINDR_CXR_GLOBAL,
    VINDR_PCXR,
    VINDR_PCXR_GLOBAL,
    LabelSet,
)
from vindr_det.structures.records import Record
from vindr_det.tables import as_numbers, letters_of, read_csv, refuse_first, require_texts

TEST = "test"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """A published part.

    Attributes:
        name: train or test.
        boxes: its annotations; None where there are none.
        labels: its labels of whole images; None where there are none.
    """

    name: str
    boxes: str | Path | None
    labels: str | Path | None


def read(
    label_set: LabelSet, global_labels: LabelSet, options: Conversion, annotations: str | Path | None = None,
    test_annotations: str | Path | None = None, labels: str | Path | None = None,
    test_labels: str | Path | None = None, meta: Sequence[str | Path] | None = None,
    images: str | Path | None = None, patients: str | Path | None = None,
) -> Annotations:
    """The tables of one or both parts, as conversion takes them.

    Args:
        label_set: of the boxes.
        global_labels: labels of whole images only.
        options: of the consensus of the training part's readers.
        annotations: annotations_train.csv: image_id, rad_id, class_name and corners.
        test_annotations: annotations_test.csv.
        labels: image_labels_train.csv: image_id, rad_id and a column of 0 and 1 per label.
        test_labels: image_labels_test.csv.
        meta: tables of the original sizes; None takes them from the files' headers.
        images: folder in which each image must exist, in its subfolders too; its file names are then used.
        patients: table of image_id and patient_id.

    Raises:
        InputError: the tables are faulty, an image is missing or in both parts, or there is no annotation.
    """
    given = [_Part(TRAIN, annotations, labels), _Part(TEST, test_annotations, test_labels)]
    _require_boxes_of_labels(given)
    given = [part for part in given if part.boxes is not None]
    if not given:
        raise InputError("expected --annotations, --test-annotations or both")
    tables = [_read_labels(part, label_set, global_labels) for part in given]
    frames = image_frames(_ids(given, tables), images, meta, options.workers)
    parts = [_read_part(part, table, frames, label_set, options)
             for part, table in zip(given, tables, strict=True)]
    records = [record for part in parts for record in part.records]
    ids = [record.image_id for record in records]
    owners = None if patients is None else read_patients(patients, ids)
    shares = pd.concat([part.labels for part in parts], ignore_index=True)
    if owners is not None:
        shares.insert(1, "patient", owners)
    names = np.repeat([part.name for part in given], [len(part.records) for part in parts])
    held_out = np.concatenate([part.held_out for part in parts]) if options.frequent else None
    readers = [record for part in parts for record in part.reader_records]
    return Annotations(shares, label_matrix(records), owners, records, reader_records=readers,
                       held_out=held_out, parts=names)


def _require_boxes_of_labels(parts: Sequence[_Part]) -> None:
    for part, prefix in zip(parts, ("", "test-"), strict=True):
        if part.boxes is None and part.labels is not None:
            raise InputError(f"--{prefix}labels {part.labels}: expected --{prefix}annotations too, the boxes "
                             "of the same images")


def _ids(given: Sequence[_Part], tables: Sequence[pd.DataFrame | None]) -> list[str]:
    """The images of all parts."""
    part_of: dict[str, str] = {}
    for part, table in zip(given, tables, strict=True):
        names = read_csv(str(part.boxes), ["image_id"])["image_id"]
        ids = sorted(set(names if table is None else table["image_id"]))
        _require_images(part, names, ids)
        both = next((name for name in ids if name in part_of), None)
        if both is not None:
            raise InputError(f"{part.boxes}: image {both} is in {part.name} and in {part_of[both]}")
        part_of |= dict.fromkeys(ids, part.name)
    return list(part_of)


def _require_images(part: _Part, names: pd.Series, known: Sequence[str]) -> None:
    refuse_first(str(part.boxes), ~names.isin(known), lambda i:
                 f"image {names.iloc[i]} is not in {part.labels}")


def _read_part(
    part: _Part, table: pd.DataFrame | None, frames: ImageFrames, label_set: LabelSet, options: Conversion
) -> Annotations:
    frame = read_annotations(str(part.boxes), frames.sizes, frames.absent, label_set)
    refuse_smaller_frame(str(part.boxes), frame, frames)
    given = frame
    if table is not None:
        _refuse_boxes_of_normal(part, frame, table, label_set)
        table = table[~table["image_id"].isin(frames.absent)]
        frame = _with_images_without_boxes(part, frame, table, label_set)
    several = frame.groupby("image_id")["rad_id"].nunique().max() > 1
    least = options.min_readers if several else 1
    unknown = {} if table is None else _unknown(given, table, label_set, least)
    if options.min_readers > 1 and part.name == TRAIN and not several:
        raise InputError(f"--min-readers {options.min_readers}: each image of {part.boxes} has a single "
                         "reader, expected 1")
    fuse = partial(to_records, frame, frames.sizes, label_set=label_set)
    records = fuse(options.fusion, options.iou_thr, options.min_readers) if several else fuse("none")
    readers = fuse("none") if several else []
    records, readers = ([_placed(record, frames, unknown) for record in each] for each in (records, readers))
    _note_unknown(part, records)
    frequent = options.frequent and part.name == TRAIN
    held_out = rare_images(frame, records, options) if frequent else np.zeros(len(records), bool)
    shares = labels_of_readers(frame, records, None, label_set)
    return Annotations(_with_table(shares, table), np.empty(0, np.int64), None, records,
                       reader_records=readers, held_out=held_out)


def _placed(record: Record, frames: ImageFrames, unknown: Mapping[str, Sequence[int]]) -> Record:
    """The record with its file, and the findings that are unknown and have no box."""
    labels = set(unknown.get(record.image_id, ())).difference(record.truth.labels.tolist())
    return replace(record, file_name=frames.names.get(record.image_id, record.file_name),
                   unknown=tuple(sorted(labels)))


def _note_unknown(part: _Part, records: Sequence[Record]) -> None:
    unknown = [record for record in records if record.unknown]
    if unknown:
        names = ", ".join(unknown[0].label_set.findings[label] for label in unknown[0].unknown)
        log.warning("%s: %d images have labels of findings without a box, or no label of a finding; these "
                    "findings are unknown there; the first is %s (%s)", part.labels, len(unknown),
                    unknown[0].image_id, names)


def _unknown(
    frame: pd.DataFrame, table: pd.DataFrame, label_set: LabelSet, min_readers: int
) -> dict[str, list[int]]:
    """Image id -> findings that a reader's labels name without a box of that reader, and findings that no
    reader labeled; all findings where the table of boxes lacks the image and no label is 1.

    A finding of fewer readers than must agree is none of the image's.
    """
    keys = ["image_id", "rad_id", "class_id"]
    columns = [name for name in label_set.findings if name in table]
    rows, at = np.nonzero((table[columns] == 1).to_numpy())
    ids = np.array([label_set.id_of(name) for name in columns], np.int64)
    named = table[keys[:2]].iloc[rows].assign(class_id=ids[at])
    drawn = frame[keys].drop_duplicates()
    own = pd.MultiIndex.from_frame(named).isin(pd.MultiIndex.from_frame(drawn))
    counts = pd.concat([named, drawn]).drop_duplicates().groupby(["image_id", "class_id"]).size()
    pairs = named.loc[~own, ["image_id", "class_id"]].drop_duplicates()
    pairs = pairs[counts.reindex(pd.MultiIndex.from_frame(pairs)).to_numpy() >= min_readers]
    pairs = pd.concat([pairs, _not_labeled(frame, table, label_set)])
    unknown = pairs.groupby("image_id")["class_id"].agg(list).to_dict()
    said = (table.drop(columns=keys[:2]) == 1).any(axis=1).groupby(table["image_id"]).any()
    silent = set(said.index[~said]).difference(frame["image_id"])
    return unknown | {name: list(range(len(label_set))) for name in silent}


def _not_labeled(frame: pd.DataFrame, table: pd.DataFrame, label_set: LabelSet) -> pd.DataFrame:
    """image_id and class_id of the findings that have a blank from each of an image's readers.

    "No finding" is a label of all findings, and the table of boxes one of those without a column.
    """
    drawn_on = table["image_id"].isin(frame["image_id"]).to_numpy()
    normal = (table[str(label_set.no_finding)] == 1).to_numpy()
    labeled = {label: normal | (table[name].notna().to_numpy() if name in table else drawn_on)
               for label, name in enumerate(label_set.findings)}
    read = pd.DataFrame(labeled).groupby(table["image_id"].to_numpy()).any()
    rows, ids = np.nonzero(~read.to_numpy())
    return pd.DataFrame({"image_id": read.index[rows], "class_id": ids})


def _refuse_boxes_of_normal(
    part: _Part, frame: pd.DataFrame, table: pd.DataFrame, label_set: LabelSet
) -> None:
    """Refuse boxes of a reader who labels the image "no finding"; without the findings' columns, as in
    VinDr-PCXR's table, this is a label of diagnoses alone.
    """
    if not set(label_set.findings) & set(table):
        return
    drawn = frame[frame["class_id"] != label_set.no_finding_id].groupby(["image_id", "rad_id"])["class_id"]
    label_of = drawn.first().reindex(pd.MultiIndex.from_frame(table[["image_id", "rad_id"]])).to_numpy()
    refuse_first(str(part.labels), (table[str(label_set.no_finding)] == 1) & ~np.isnan(label_of), lambda i:
                 f"image {table['image_id'].iloc[i]} has No finding 1 of reader {table['rad_id'].iloc[i]}, "
                 f"who has a box of {label_set.findings[int(label_of[i])]} on it in {part.boxes}")


def _with_images_without_boxes(
    part: _Part, frame: pd.DataFrame, table: pd.DataFrame, label_set: LabelSet
) -> pd.DataFrame:
    """The rows, and a mark of "no finding" for each reading that has none in the table of boxes."""
    keys = ["image_id", "rad_id"]
    readings = pd.MultiIndex.from_frame(table[keys])
    left = table.loc[~readings.isin(pd.MultiIndex.from_frame(frame[keys])), keys]
    others = left[left["image_id"].isin(frame["image_id"])]
    if len(others):
        log.warning("%s: %d readings have no row in %s although their images do; they count as readers who "
                    "drew nothing; the first is of image %s by %s", part.labels, len(others), part.boxes,
                    *others.iloc[0])
    marks = left.assign(class_id=label_set.no_finding_id, **dict.fromkeys(EDGES, np.nan))
    return pd.concat([frame, marks], ignore_index=True) if len(marks) else frame


def _with_table(shares: pd.DataFrame, table: pd.DataFrame | None) -> pd.DataFrame:
    """The labels of whole images in the place of those that boxes tell; blank where no reader gave any."""
    if table is None:
        return shares
    names = table.columns.difference(["image_id", "rad_id"], sort=False).tolist()
    means = table.groupby("image_id")[names].mean().round(4).reindex(shares["image_id"])
    return shares.assign(**{name: means[name].to_numpy() for name in names})


def _read_labels(part: _Part, label_set: LabelSet, global_labels: LabelSet) -> pd.DataFrame | None:
    """image_id, rad_id and the labels of a part, 0, 1 or NaN, in the sets' names."""
    if part.labels is None:
        return None
    # The test table has "Other disease", the training table "Other diseases".
    names = {_singular(name): name for name in (*label_set.findings, *global_labels.classes)}
    table = read_csv(part.labels, ["image_id"])
    table = table.rename(columns={name: names.get(_singular(str(name)), name) for name in table})
    missing = [name for name in global_labels.classes if name not in table]
    if missing:
        raise InputError(f"{part.labels}: column {', '.join(missing)} is missing; is this image_labels_"
                         f"{part.name}.csv? It has {', '.join(map(str, table))}")
    if "rad_id" in table:
        require_texts(part.labels, table, ["rad_id"])
    table["rad_id"] = table.get("rad_id", CONSENSUS)
    refuse_first(part.labels, table.duplicated(["image_id", "rad_id"]), lambda i:
                 f"image {table['image_id'].iloc[i]} is repeated for reader {table['rad_id'].iloc[i]}")
    columns = [name for name in names.values() if name in table]
    values = table[columns].apply(as_numbers)
    wrong = ~(values.isin([0, 1]) | table[columns].isna())
    first = wrong.to_numpy().argmax(axis=1)
    refuse_first(part.labels, wrong.any(axis=1), lambda i: f"{columns[first[i]]} is "
                 f"{table[columns[first[i]]].iloc[i]}, expected 0, 1 or a blank")
    return _without_contradictions(
        part.labels, pd.concat([table[["image_id", "rad_id"]], values], axis=1), str(label_set.no_finding))


def _without_contradictions(path: str | Path, table: pd.DataFrame, no_finding: str) -> pd.DataFrame:
    """The labels, which are refused where a reader gives "no finding" and a finding."""
    others = table.drop(columns=["image_id", "rad_id", no_finding]) == 1
    refuse_first(path, (table[no_finding] == 1) & others.any(axis=1), lambda i:
                 f"image {table['image_id'].iloc[i]} has {no_finding} 1 and 1 for "
                 f"{others.columns[others.iloc[i]][0]} of reader {table['rad_id'].iloc[i]}, expected either")
    return table


def _singular(name: str) -> str:
    return letters_of(name).removesuffix("s")


def summary(
    published: dict[str, int], annotations: Annotations, fold_of: NDArray[np.int64], options: Conversion,
    out: Path,
) -> list[str]:
    """Counts of images and boxes of each part, compared with the published ones, in lines."""
    parts = [] if annotations.parts is None else annotations.parts.tolist()
    counts = {f"{name} images": parts.count(name) for name in dict.fromkeys(parts)}
    normal = {record.image_id for record in annotations.records if record.normal}
    emptied = sum(not record.normal and record.image_id in normal for record in annotations.reader_records)
    lost = [f"{emptied} images lost all their boxes to --min-readers {options.min_readers} and count as "
            "normal"]
    return [*summary_of_boxes(annotations, fold_of, options, out), *(lost if emptied else []),
            *compared(counts, published)]


def _release(
    name: str, label_set: LabelSet, global_labels: LabelSet, published: dict[str, int], readers_in_test: bool
) -> Release:
    boxes, title = ("image_id", "class_name", *EDGES), label_set.name
    without = () if readers_in_test else ("class_id",)
    train, test = (Table(f"{title}'s annotations_{TRAIN}.csv", ("rad_id", *boxes), without),
                   Table(f"{title}'s annotations_{TEST}.csv", boxes,
                         without if readers_in_test else (*without, "rad_id")))
    return Release(name, label_set, partial(read, label_set, global_labels), partial(summary, published),
                   {"annotations": (train,), "test_annotations": (test,)})


CXR_RELEASE = _release("vindr-cxr", VINDR_CXR, VINDR_CXR_GLOBAL,
                       {"train images": 15000, "test images": 3000}, False)
PCXR_RELEASE = _release("vindr-pcxr", VINDR_PCXR, VINDR_PCXR_GLOBAL,
                        {"train images": 7728, "test images": 1397}, True)
