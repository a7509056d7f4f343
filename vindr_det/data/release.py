"""A release: a published data set, in one module that reads its tables into the form that conversion takes.

Each module has a :class:`Release` named ``RELEASE``; the list of them is in :mod:`vindr_det.data.convert`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record, label_set_of_records

#: The fold of images that belong to none: those that are held out, and test images.
NO_FOLD = -1
#: The published part that is trained on; folds are of its images.
TRAIN = "train"


@dataclass(frozen=True)
class Conversion:
    """What to make of a release's tables; a release without the table that an option is for ignores it.

    Attributes:
        fusion: ``wbf``, ``nms`` or ``none``; see :func:`vindr_det.data.consensus.fuse_readers`.
        iou_thr: boxes of one class with a higher IoU are the same finding.
        min_readers: keep boxes that at least so many readers drew.
        folds: number of folds.
        seed: of the folds.
        frequent: hold out images that none of these readers read; empty holds out none.
        label_sets: also write the training sets of boxes that at least 2, 3, ... readers drew.
        lists: which published lists to write too: ``cadlab`` or ``chexnet`` of NIH ChestX-ray14.
        to: ``coco`` or ``yolo``, the files to write.
        copy: put copies of the images beside YOLO's labels, not links.
        workers: processes that read the headers of image files; None takes one per core.
    """

    fusion: str = "wbf"
    iou_thr: float = 0.4
    min_readers: int = 1
    folds: int = 5
    seed: int = 0
    frequent: tuple[str, ...] = ()
    label_sets: bool = False
    lists: str | None = None
    to: str = "coco"
    copy: bool = False
    workers: int | None = None


@dataclass(frozen=True)
class Annotations:
    """The tables of a release, read and checked. Rows are its N images.

    Attributes:
        labels: (N rows) what becomes ``labels.csv``: the image, its patient where known, and a column per
            class of the label set, 0/1 or the share of readers. A column ``fold`` is filled in, or added
            last.
        strata: (N, K) zeros and ones, which folds spread evenly.
        patients: (N,) None where they are not known.
        records: the images with their true boxes: all N of them, in order, where ``boxes_complete``.
        boxes_complete: whether boxes were drawn on every image, so that those without any are normal.
        reader_records: the same images with each reader's own boxes, where there are several readers.
        held_out: (N,) images to keep out of all folds; None for none.
        parts: (N,) the published part of each image, such as ``train`` and ``test``; None where there are
            none. Folds are of the images in ``train``.
        lists: published training, validation and test lists: name -> table with ``image`` and ``patient``.
    """

    labels: pd.DataFrame
    strata: NDArray[np.int64]
    patients: NDArray | None = None
    records: Sequence[Record] = ()
    boxes_complete: bool = True
    reader_records: Sequence[Record] = ()
    held_out: NDArray[np.bool_] | None = None
    lists: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    parts: NDArray[np.str_] | None = None


@dataclass(frozen=True)
class Table:
    """What a published table is known by.

    Attributes:
        title: names it in errors.
        columns: it has all of these; none for a file that is no table.
        without: it has none of these.
        usual: it mostly has these too, which tells it from tables of other releases.
    """

    title: str
    columns: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """A published data set.

    Attributes:
        name: as :func:`vindr_det.data.convert.convert` takes it.
        label_set: what its class ids mean; None where its files tell.
        read: takes the options, and the paths of its tables by name; raises InputError for faulty ones.
        summary: what was converted, in lines: annotations, fold of each image, options, output folder.
        tables: what each of its files may be, by the name that ``read`` gives the file.
    """

    name: str
    label_set: LabelSet | None
    read: Callable[..., Annotations]
    summary: Callable[..., list[str]]
    tables: Mapping[str, tuple[Table, ...]] = field(default_factory=dict)


def summary_of_boxes(
    annotations: Annotations, fold_of: NDArray[np.int64], options: Conversion, out: Path
) -> list[str]:
    """Counts of images, normal images, boxes and incomplete annotations, also of each part, in lines."""
    parts = np.full(len(fold_of), "all") if annotations.parts is None else annotations.parts
    lines = [f"{len(fold_of)} images, {options.folds} folds in {out}"]
    for name in dict.fromkeys(parts.tolist()):
        records = [record for record, part in zip(annotations.records, parts, strict=True) if part == name]
        boxes, normal = sum(len(record.truth) for record in records), sum(r.normal for r in records)
        unknown = sum(bool(record.unknown) for record in records)
        lines.append(f"{name}: {len(records)} images ({normal} normal), {boxes} boxes" + (
            f", {unknown} images with findings that have no box and are unknown there" if unknown else ""))
    return lines


def boxes_in_labels(records: Sequence[Record], patients: NDArray | None = None) -> pd.DataFrame:
    """labels.csv by the boxes: image_id, patient where known, and 0 or 1 per finding, blank where unknown.

    Args:
        records: N images.
        patients: (N,) of the images; None where they are not known.
    """
    label_set = label_set_of_records(records)
    values = np.zeros((len(records), len(label_set)))
    for row, record in enumerate(records):
        values[row, list(record.unknown)] = np.nan
        values[row, record.truth.labels] = 1
    labels = pd.DataFrame(values, columns=list(label_set.findings)).astype("Int8")
    labels.insert(0, "image_id", [record.image_id for record in records])
    if patients is not None:
        labels.insert(1, "patient", patients)
    return labels


def own_patients(paths: Sequence[str | Path], records: Sequence[Record]) -> NDArray | None:
    """(N,) the patients that the images of files name; None where no image names any.

    Args:
        paths: (N,) the file of each image, for errors.
        records: the images.

    Raises:
        InputError: some images name their patient, others do not.
    """
    known = [record.patient for record in records]
    if not any(known):
        return None
    if None in known:
        at = known.index(None)
        raise InputError(f"{paths[at]}: image {records[at].image_id} has no patient, but others have one; "
                         "expected a patient of every image, or --patients")
    return np.array(known, dtype=object)


def with_patients(annotations: Annotations) -> Annotations:
    """The annotations with each image's patient in its record too, where patients are known."""
    if annotations.patients is None:
        return annotations
    labels = annotations.labels
    names = labels["image_id"] if "image_id" in labels else labels["image"].map(image_id_of)
    owner_of = dict(zip(names, map(str, annotations.patients), strict=True))

    def named(records: Sequence[Record]) -> list[Record]:
        return [replace(record, patient=owner_of.get(record.image_id)) for record in records]

    return replace(annotations, records=named(annotations.records),
                   reader_records=named(annotations.reader_records))


def compared(counts: Mapping[str, int], published: Mapping[str, int]) -> list[str]:
    """A line that says whether counts are those of the published files, and which are not.

    Args:
        counts: what was counted; those that were not published are left out.
        published: the same, as published.
    """
    differ = [f"{counts[name]} {name} (published: {number})" for name, number in published.items()
              if name in counts and counts[name] != number]
    if not any(name in counts for name in published):
        return []
    return [f"differs from the published files, or is a part of them: {', '.join(differ)}" if differ
            else "all counts are those of the published files"]
