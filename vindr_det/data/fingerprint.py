"""What a data set is like, in the numbers that a config follows from: images, findings, sizes of the boxes.

The idea is nnU-Net's (Isensee et al., 2021) and nnDetection's (Baumgartner et al., 2021): a fingerprint of
the annotations, from which rules (:mod:`vindr_det.detection.plan`) make a config.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vindr_det.data.coco import image_names, patient_of_image
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json, image_id_in_table, read_json
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record, label_set_of_records
from vindr_det.tables import read_csv

#: Longest sides in pixels that images are trained at.
IMAGE_SIZES = (192, 256, 320, 384, 512, 640, 768, 1024, 1280)
#: Boxes with a shorter side below this are tiny (AI-TOD: Wang et al., 2021): four cells of the finest level.
TINY_SIDE = 16
#: The stride of the finest level of a feature pyramid, in pixels.
FINEST_STRIDE = 4
#: The AP over fewer images tells next to nothing: half the findings of 10 are .19 to .81 (95 %, binomial).
MIN_IMAGES = 10
#: Boxes of one class on an image that overlap more are perhaps several readers' of one finding.
SAME_FINDING_IOU = 0.4
# Files whose headers are read, and by how much rounding may change the ratio of a file's sides.
_MEASURED, _ROUNDING = 50, 0.02


@dataclass(frozen=True)
class Fingerprint:
    """The numbers of N images with M boxes of K findings.

    Attributes:
        label_set: what the class ids mean.
        shapes: (N, 2) height and width of the images, in pixels.
        present: (N, K) whether the finding has a box on the image.
        unknown: (N, K) whether the finding may be on the image without a box.
        labels: (M,) class ids of the boxes.
        rows: (M,) index of each box's image.
        sides: (M, 2) height and width of the boxes, in the images' pixels.
        overlapping: boxes that overlap an earlier box of their class and image by more than
            :data:`SAME_FINDING_IOU`.
        patients: number of patients; None where they are not known.
    """

    label_set: LabelSet
    shapes: NDArray[np.int64]
    present: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    sides: NDArray[np.float64]
    overlapping: int
    patients: int | None = None

    @property
    def normal(self) -> NDArray[np.bool_]:
        """(N,) images that are known to have no finding."""
        return np.logical_not(np.any(self.present | self.unknown, axis=1))

    @property
    def images_with(self) -> NDArray[np.int64]:
        """(K,) images with a box of the finding."""
        return self.present.sum(axis=0)

    def too_few(self) -> dict[str, int]:
        """Findings with boxes on fewer than :data:`MIN_IMAGES` images, and on how many."""
        return {name: int(count) for name, count in
                zip(self.label_set.findings, self.images_with, strict=True) if count < MIN_IMAGES}

    def sides_at(self, size: int, keep_aspect: bool = True) -> NDArray[np.float64]:
        """(M, 2) height and width of the boxes in pixels, on images of ``size`` pixels.

        Args:
            size: longest side of the images, both sides without ``keep_aspect``.
            keep_aspect: whether the images keep the ratio of their sides.
        """
        shapes = self.shapes[self.rows].astype(float)
        return self.sides * size / (shapes.max(axis=1, keepdims=True) if keep_aspect else shapes)

    def tiny_at(self, size: int, keep_aspect: bool = True) -> float:
        """Share of the boxes with a shorter side under :data:`TINY_SIDE` on images of ``size`` pixels."""
        return float((self.sides_at(size, keep_aspect).min(axis=1, initial=np.inf) < TINY_SIDE).mean()
                     ) if len(self.labels) else 0.0


def fingerprint_of(
    records: Sequence[Record], patient_of: Mapping[str, str] | None = None, what: str = "annotations"
) -> Fingerprint:
    """The fingerprint of annotated images.

    Args:
        records: the images.
        patient_of: image id -> patient, as of :func:`read_patients`; empty or None where they are not known.
        what: names the annotations in errors.

    Raises:
        InputError: records of two label sets.
    """
    label_set = label_set_of_records(records, what)
    counts = [len(record.truth) for record in records]
    rows = np.repeat(np.arange(len(records)), counts)
    labels = np.concatenate([np.zeros(0, np.int64), *(record.truth.labels for record in records)])
    boxes = np.concatenate([box_ops.as_boxes([]), *(record.truth.boxes for record in records)])
    owners = {patient_of.get(record.image_id, record.image_id) for record in records} if patient_of else None
    return Fingerprint(
        label_set, np.array([(r.height, r.width) for r in records], np.int64).reshape(-1, 2),
        present_findings(records, label_set), _unknown_findings(records, label_set), labels, rows,
        box_ops.xyxy_to_xywh(boxes)[:, [3, 2]], _overlapping(boxes, labels, rows),
        None if owners is None else len(owners))


def present_findings(records: Sequence[Record], label_set: LabelSet) -> NDArray[np.bool_]:
    """(N, K) whether each of the K findings has a box on each of the N images."""
    present = np.zeros((len(records), len(label_set)), bool)
    for row, record in enumerate(records):
        present[row, record.truth.labels] = True
    return present


def _unknown_findings(records: Sequence[Record], label_set: LabelSet) -> NDArray[np.bool_]:
    unknown = np.zeros((len(records), len(label_set)), bool)
    for row, record in enumerate(records):
        unknown[row, list(record.unknown)] = True
    return unknown


def _overlapping(boxes: NDArray, labels: NDArray, rows: NDArray) -> int:
    """Boxes that overlap an earlier box of their class and image."""
    order = np.lexsort((labels, rows))
    keys = np.stack([rows, labels])[:, order]
    starts = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
    groups = [group for group in np.split(order, starts) if len(group) > 1]
    return sum(int((np.triu(box_ops.box_iou_batch(boxes[group], boxes[group]), 1)
                    > SAME_FINDING_IOU).any(axis=0).sum()) for group in groups)


def read_patients(path: str | Path) -> dict[str, str]:
    """Image id -> patient of a COCO JSON's images; empty where they are not known.

    They are the images' key ``patient`` or ``patient_id``, or else a column of the ``labels.csv`` beside
    it, which conversion writes.

    Raises:
        InputError: not COCO, or a faulty table.
    """
    names = image_names(path)
    images = read_json(path)["images"] if holds_json(path) else []
    owners = {names[image["id"]]: patient_of_image(image) for image in images}
    known = {name: owner for name, owner in owners.items() if owner is not None}
    table = Path(path).parent / "labels.csv"
    return known or (_patients_in(table, owners) if table.is_file() else {})


def _patients_in(table: Path, ids: Collection[str]) -> dict[str, str]:
    frame = read_csv(table)
    column = next((name for name in ("image_id", "image") if name in frame), None)
    if column is None or "patient" not in frame:
        return {}
    owners = zip(frame[column].map(image_id_in_table), frame["patient"].astype(str), strict=True)
    return {name: owner for name, owner in owners if name in ids}


@dataclass(frozen=True)
class ImageFiles:
    """The files that are trained on, which others may have resized.

    Attributes:
        longest: median of their longest sides, in pixels.
        distorted: whether the ratio of their sides is not the originals', as of images resized to squares.
    """

    longest: int
    distorted: bool


def measure_files(
    records: Sequence[Record], folder: str | Path, what: str = "annotations"
) -> ImageFiles | None:
    """What the headers of some of the images' files tell; None of DICOM files, which are the originals.

    Args:
        records: the images.
        folder: of the files.
        what: names the annotations in errors.

    Raises:
        InputError: a file is missing.
    """
    chosen = [records[at] for at in sorted(set(np.linspace(0, len(records) - 1, _MEASURED).astype(int)))]
    shapes = [(record, shape) for record in chosen
              if (shape := _file_shape(Path(folder) / record.file_name, what))]
    if not shapes:
        return None
    distorted = [abs(height / width / (record.height / record.width) - 1) > _ROUNDING
                 for record, (height, width) in shapes]
    return ImageFiles(int(np.median([max(shape) for _, shape in shapes])), any(distorted))


def _file_shape(path: Path, what: str) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return None
    except OSError as error:
        raise InputError(f"{path}: no such image, but {what} names it") from error


def fingerprint_tables(fingerprint: Fingerprint) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """File name, title and table of each part of a fingerprint."""
    label_set = fingerprint.label_set
    title = f"Images and boxes ({label_set.name}, {len(label_set)} findings)"
    yield "fingerprint", title, _counts(fingerprint)
    if len(fingerprint.labels):
        title = "Sides of the boxes by class, as a share of the image's longest side"
        yield "class_sizes", title, _class_sizes(fingerprint)
        title = f"Shorter sides of the boxes at each VINDR.IMAGE_SIZE (pixels, cells of {FINEST_STRIDE})"
        yield "image_sizes", title, _size_table(fingerprint)


def _counts(fingerprint: Fingerprint) -> pd.DataFrame:
    images, boxed = len(fingerprint.shapes), fingerprint.present.any(axis=1)
    unknown = fingerprint.unknown.any(axis=1)
    counts = {
        "images": (images, None), "normal images": (fingerprint.normal.sum(), images),
        "images with boxes": (boxed.sum(), images),
        "images with unknown findings": (unknown.sum(), images),
        "of them without boxes": ((unknown & ~boxed).sum(), images),
        "boxes": (len(fingerprint.labels), None),
        f"boxes that repeat another of their class (IoU > {SAME_FINDING_IOU:g})": (
            fingerprint.overlapping, len(fingerprint.labels)),
    }
    if fingerprint.patients is not None:
        counts["patients"] = (fingerprint.patients, None)
    rows = {name: (int(count), 100 * count / whole if whole else np.nan)
            for name, (count, whole) in counts.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["count", "percent"]).rename_axis("what")


def _class_sizes(fingerprint: Fingerprint) -> pd.DataFrame:
    """A row per finding: images, boxes, images where it is unknown, quantiles of the boxes' sides, shape."""
    share = fingerprint.sides_at(1)
    rows = []
    for label in range(len(fingerprint.label_set)):
        sides = share[fingerprint.labels == label]
        few = np.quantile(sides.min(axis=1), [0.05, 0.5]) if len(sides) else [np.nan] * 2
        large = np.quantile(sides.max(axis=1), [0.5, 0.95]) if len(sides) else [np.nan] * 2
        ratio = float(np.exp(np.median(np.log(sides[:, 0] / sides[:, 1])))) if len(sides) else np.nan
        rows.append([*few, *large, ratio])
    table = pd.DataFrame(rows, index=pd.Index(fingerprint.label_set.findings, name="class"), columns=[
        "shorter 5 %", "shorter median", "longer median", "longer 95 %", "height / width"])
    table.insert(0, "images", fingerprint.images_with)
    table.insert(1, "boxes", np.bincount(fingerprint.labels, minlength=len(table)))
    table.insert(2, "unknown", fingerprint.unknown.sum(axis=0))
    return table


def _size_table(fingerprint: Fingerprint) -> pd.DataFrame:
    rows = {}
    for size in IMAGE_SIZES:
        shorter = fingerprint.sides_at(size).min(axis=1)
        low, middle = np.quantile(shorter, [0.05, 0.5])
        rows[size] = [low, middle, low / FINEST_STRIDE, 100 * (shorter < TINY_SIDE).mean(),
                      100 * (shorter < 2 * TINY_SIDE).mean()]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[
        "5 %", "median", "5 %, cells", f"percent under {TINY_SIDE} px",
        f"percent under {2 * TINY_SIDE} px"]).rename_axis("image size")
