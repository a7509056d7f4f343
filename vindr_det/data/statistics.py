"""A data set in tables: classes, images, boxes, readers, their agreement, co-occurrence of findings."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from tabulate import tabulate

from vindr_det.data.fingerprint import Fingerprint, fingerprint_of, fingerprint_tables
from vindr_det.data.vinbigdata import to_records
from vindr_det.exceptions import InputError
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NO_FINDING_ID
from vindr_det.structures.records import Record

#: Two readers' boxes of one class that overlap more are the same finding, as in the metric.
IOU_THR = 0.4


@dataclass(frozen=True)
class Overview:
    """The tables, each indexed by what its rows are; those of readers are empty where they are not known.

    Attributes:
        classes: one row per class: images, boxes (readers' and consensus boxes of a table of readers), how
            many readers agreed; images where the finding is unknown, if there are any.
        boxes_per_image: images by their number of consensus boxes.
        sizes: quantiles of the images' and the boxes' sides.
        readers: one row per reader: images, abnormal ones, boxes.
        common_images: abnormal images that two readers both read, reader by reader.
        agreement: F1 of two readers' boxes on these images (IoU > .4, same class); NaN where none.
        co_occurrence: share of the images with the row's finding that also show the column's, without images
            on which that is unknown.
        shapes: one row per image, height and width.
        fingerprint: the numbers that a config follows from.
    """

    classes: pd.DataFrame
    boxes_per_image: pd.DataFrame
    sizes: pd.DataFrame
    readers: pd.DataFrame
    common_images: pd.DataFrame
    agreement: pd.DataFrame
    co_occurrence: pd.DataFrame
    shapes: pd.DataFrame
    fingerprint: Fingerprint


def describe(frame: pd.DataFrame, sizes: pd.DataFrame) -> Overview:
    """All tables of an annotated data set.

    Args:
        frame: as of :func:`vindr_det.data.vinbigdata.read_annotations`.
        sizes: as of :func:`vindr_det.imaging.sizes.read_sizes`.
    """
    records = to_records(frame, sizes, iou_thr=IOU_THR)
    drawn = frame.loc[frame["class_id"] != NO_FINDING_ID, "class_id"].value_counts()
    common, agreement = _reader_pairs(to_records(frame, sizes, "none"))
    overview = describe_records(records)
    classes = overview.classes.rename(columns={"boxes": "consensus_boxes"})
    classes.insert(1, "readers_boxes", [int(drawn.get(label, 0)) for label in range(len(classes))])
    return replace(overview, classes=classes, readers=_readers(frame), common_images=common,
                   agreement=agreement,
                   boxes_per_image=overview.boxes_per_image.rename_axis("consensus_boxes"))


def describe_records(
    records: Sequence[Record], patient_of: Mapping[str, str] | None = None, what: str = "annotations"
) -> Overview:
    """The tables of annotated images of any label set, without those of each reader's boxes.

    Args:
        records: the images.
        patient_of: image id -> patient; empty or None where they are not known.
        what: names the annotations in errors.

    Raises:
        InputError: no image, or two label sets.
    """
    if not records:
        raise InputError(f"{what}: holds no image to describe")
    fingerprint = fingerprint_of(records, patient_of, what)
    return Overview(
        classes=_classes(records, fingerprint),
        boxes_per_image=_boxes_per_image(records),
        sizes=_sizes(records),
        readers=pd.DataFrame(), common_images=pd.DataFrame(), agreement=pd.DataFrame(),
        co_occurrence=_co_occurrence(fingerprint),
        shapes=pd.DataFrame({"height": [r.height for r in records], "width": [r.width for r in records]},
                            index=[r.image_id for r in records]),
        fingerprint=fingerprint,
    )


def _classes(records: Sequence[Record], fingerprint: Fingerprint) -> pd.DataFrame:
    label_set, labels = fingerprint.label_set, fingerprint.labels
    images, unknown = fingerprint.images_with.tolist(), fingerprint.unknown.sum(axis=0).tolist()
    behind = np.array([len(names) for r in records for names in r.readers or [()] * len(r.truth)], np.int64)
    if label_set.no_finding is not None:
        images, unknown = [*images, int(fingerprint.normal.sum())], [*unknown, 0]
    table = pd.DataFrame({"images": images}, index=pd.Index(label_set.classes, name="class"))
    table["boxes"] = np.bincount(labels, minlength=len(table))
    for count in range(1, max(behind, default=0) + 1):
        table[f"by_{count}"] = np.bincount(labels[behind == count], minlength=len(table))
    if any(unknown):
        table["unknown"] = unknown
    return table


def _boxes_per_image(records: Sequence[Record]) -> pd.DataFrame:
    counts = pd.Series([len(record.truth) for record in records]).value_counts().sort_index()
    return counts.rename_axis("boxes").to_frame("images")


def _sizes(records: Sequence[Record]) -> pd.DataFrame:
    height, width = (np.array([getattr(r, side) for r in records]) for side in ("height", "width"))
    unit = [box_ops.to_unit(r.truth.boxes, r.height, r.width) for r in records if len(r.truth)]
    box = box_ops.xyxy_to_xywh(np.concatenate(unit)) if unit else np.zeros((0, 4))
    columns = {
        "image height": height, "image width": width, "height / width": height / width,
        "box height / image's": box[:, 3], "box width / image's": box[:, 2],
        "box area / image's": box[:, 2] * box[:, 3],
    }
    shares = {"min": 0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1}
    rows = {name: np.quantile(values, list(shares.values())) if len(values) else [np.nan] * 5
            for name, values in columns.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(shares)).rename_axis("side")


def _by_name(readers: Sequence[str]) -> list[str]:
    """R2 before R10."""
    return sorted(readers, key=lambda name: (len(name), name))


def _readers(frame: pd.DataFrame) -> pd.DataFrame:
    boxes = frame[frame["class_id"] != NO_FINDING_ID]
    table = pd.DataFrame({
        "images": frame.groupby("rad_id")["image_id"].nunique(),
        "abnormal": boxes.groupby("rad_id")["image_id"].nunique(),
        "boxes": boxes.groupby("rad_id").size(),
    }).fillna(0).astype(int)
    table["boxes_per_abnormal"] = table["boxes"] / table["abnormal"].where(table["abnormal"] > 0)
    return table.loc[_by_name(list(table.index))].rename_axis("reader")


def _reader_pairs(records: Sequence[Record]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Common abnormal images and F1 for each pair; only readers who drew something count."""
    common: dict[tuple[str, str], int] = defaultdict(int)
    matched: dict[tuple[str, str], int] = defaultdict(int)
    total: dict[tuple[str, str], int] = defaultdict(int)
    for drawn in map(_boxes_by_reader, records):
        for pair in combinations(_by_name(list(drawn)), 2):
            boxes = [drawn[name] for name in pair]
            common[pair] += 1
            matched[pair] += count_matches(*boxes)
            total[pair] += sum(map(len, boxes))
    names = _by_name(list({name for pair in common for name in pair}))
    images = pd.DataFrame(0, index=names, columns=names)
    f1 = pd.DataFrame(np.nan, index=names, columns=names)
    for (first, second), count in common.items():
        images.loc[first, second] = images.loc[second, first] = count
        value = 2 * matched[first, second] / total[first, second]
        f1.loc[first, second] = f1.loc[second, first] = value
    return images.rename_axis("reader"), f1.rename_axis("reader")


def _boxes_by_reader(record: Record) -> dict[str, Predictions]:
    owners = np.array([names[0] for names in record.readers])
    return {name: record.truth[owners == name] for name in dict.fromkeys(owners.tolist())}


def count_matches(first: Predictions, second: Predictions) -> int:
    """Pairs of boxes of one class that overlap by more than :data:`IOU_THR`, each box in one pair."""
    overlap = box_ops.box_iou_batch(first.boxes, second.boxes)
    overlap[first.labels[:, None] != second.labels] = 0
    count = 0
    while overlap.size and overlap.max() > IOU_THR:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap[row], overlap[:, column] = 0, 0
        count += 1
    return count


def _co_occurrence(fingerprint: Fingerprint) -> pd.DataFrame:
    present, names = fingerprint.present.astype(float), fingerprint.label_set.findings
    both, known = present.T @ present, present.T @ (~fingerprint.unknown).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = both / known
    return pd.DataFrame(share, index=pd.Index(names, name="class"), columns=list(names))


def named_tables(overview: Overview) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """File name, title and table of everything to print that is not empty."""
    fused = "consensus_boxes" in overview.classes
    titles = {
        "classes": ("Classes (by_k: consensus boxes on which k readers agree)" if fused else
                    "Classes (unknown: images that may show the finding without a box)"
                    if "unknown" in overview.classes else "Classes"),
        "boxes_per_image": "Consensus boxes per image" if fused else "Boxes per image",
        "sizes": "Sizes (pixels; boxes as a share of their image)",
        "readers": "Readers",
        "common_images": "Abnormal images that two readers both read",
        "agreement": "Agreement of two readers: F1 of boxes of one class with IoU > .4",
        "co_occurrence": "Share of the images with the row's finding that show the column's too",
    }
    for name, title in titles.items():
        if len(getattr(overview, name)) or fused:
            yield name, title, getattr(overview, name)
    yield from fingerprint_tables(overview.fingerprint)


def as_text(table: pd.DataFrame) -> str:
    """A table to print: counts whole, the rest to three digits, "-" where there is nothing."""
    text = table.reset_index().map(_cell)
    names = [str(name).replace("_", " ") for name in text]
    sides = ("left", *["right"] * (len(names) - 1)) if len(text) else None  # tabulate 0.9 fails on no rows
    return tabulate(text, names, showindex=False, disable_numparse=True, colalign=sides)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if np.isnan(value) else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
