"""Images with true and predicted boxes drawn on them, and a config's augmentation on a grid."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.data.coco import image_sizes
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of, write_png
from vindr_det.imaging.montage import grid_of, title_strip
from vindr_det.imaging.read import read_image
from vindr_det.imaging.sizes import shapes_of
from vindr_det.imaging.status import FAILED, Status
from vindr_det.limits import require_seed
from vindr_det.parallel import Failure, guarded
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.records import Record

log = logging.getLogger(__name__)

TRUE_COLOR = (90, 220, 90)  # BGR
PREDICTED_COLOR = (60, 170, 255)
_STRIP = 22


@dataclass(frozen=True)
class Subject:
    """An image to draw.

    Attributes:
        image_id: its id, which is the title.
        path: of its file.
        truth: boxes in pixels of the original; None where they are not known.
    """

    image_id: str
    path: Path
    truth: Predictions | None = None


@dataclass(frozen=True)
class _Layer:
    """Boxes of one color: predicted ones with their scores, or true ones."""

    boxes: Predictions
    color: tuple[int, int, int]
    scored: bool


def choose(
    paths: Mapping[str, Path], records: Sequence[Record] | None, count: int, ids: Sequence[str] = (),
    seed: int | None = None,
) -> list[Subject]:
    """The images to draw: abnormal ones first where there is truth, else in the order of their ids.

    Args:
        paths: image id -> file.
        records: truth; images without are left out. None where there is none.
        count: number of images.
        ids: these images instead, in this order, also without truth; names of files count as ids.
        seed: draw at random instead; None for none.

    Raises:
        InputError: an id is not among the images.
    """
    truth = {record.image_id: record for record in records or ()}
    if ids:
        chosen = [name if name in paths else image_id_of(name) for name in ids]
        unknown = [name for name, image_id in zip(ids, chosen, strict=True) if image_id not in paths]
        if unknown:
            raise InputError(f"--ids {unknown[0]}: is not among the {len(paths)} images ({len(unknown)} of "
                             f"{len(ids)} are not)")
    else:
        chosen = _ordered(paths, truth if records is not None else None, seed)[:count]
    return [Subject(image_id, paths[image_id], truth[image_id].truth if image_id in truth else None)
            for image_id in chosen]


def _ordered(
    paths: Mapping[str, Path], truth: Mapping[str, Record] | None, seed: int | None
) -> list[str]:
    ids = sorted(paths if truth is None else truth.keys() & paths.keys())
    if seed is not None:
        return np.random.default_rng(require_seed(seed)).permutation(ids).tolist()
    if truth is None:
        return ids
    return sorted(ids, key=lambda image_id: (truth[image_id].normal, -len(truth[image_id].truth)))


def known_sizes(
    given: Mapping[str, tuple[int, int]], annotations: str | Path | None, statuses: Mapping[str, Status],
) -> dict[str, tuple[int, int]]:
    """Image id -> (height, width) of the original: as given, else by annotations, else by the status table.

    Args:
        given: sizes that count whatever the others say, such as those of a table.
        annotations: a COCO JSON, whose images have sizes; other files say nothing. None for none.
        statuses: of the run that predicted.
    """
    predicted = {image_id: (status.height, status.width) for image_id, status in statuses.items()
                 if status.height and status.width}
    annotated = shapes_of(image_sizes(annotations)) if annotations else {}
    return {**predicted, **annotated, **given}


def overlay(
    image: NDArray[np.uint8], truth: Predictions | None, predicted: Predictions | None,
    height: int, width: int, longest: int = 900, title: str = "", unknown: str = "",
) -> NDArray[np.uint8]:
    """Draw boxes on a copy of an image.

    Args:
        image: (H, W) uint8, any size.
        truth: boxes (xyxy) in pixels of the original; None where they are not known.
        predicted: likewise; drawn with their scores.
        height: of the original.
        width: of the original.
        longest: longest side of the picture.
        title: written above; empty for none.
        unknown: why nothing is predicted, for the legend; empty where it is known or not asked.

    Returns:
        (H', W', 3) uint8, BGR, with a legend below.
    """
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    layers = [_Layer(boxes.findings(), color, scored)
              for boxes, color, scored in ((truth, TRUE_COLOR, False), (predicted, PREDICTED_COLOR, True))
              if boxes is not None]
    _draw(picture, layers, factor)
    picture = _with_legend(picture, layers, unknown)
    return np.concatenate([title_strip(title, picture.shape[1], _STRIP), picture]) if title else picture


def pictures(
    subjects: Sequence[Subject], predictions: PredictionSet | None, sizes: Mapping[str, tuple[int, int]],
    min_score: float, longest: int = 900, statuses: Mapping[str, Status] | None = None,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Image id and picture of each image; an image that cannot be read is only logged.

    Args:
        subjects: the images.
        predictions: image id -> detections; None where there are no predictions.
        sizes: image id -> (height, width) of the original, for images that were made smaller.
        min_score: predictions below are left out.
        longest: longest side of a picture.
        statuses: of the run that predicted, see :func:`vindr_det.imaging.status.read_statuses`. An image that
            failed there was not read, and one that is in neither was not predicted: the legend says so.
    """
    for subject in subjects:
        image = guarded(read_image, subject.path)
        if isinstance(image, Failure):
            log.warning("no picture: %s", image.reason)
            continue
        height, width = sizes.get(subject.image_id, (image.height, image.width))
        unknown = _unknown(subject.image_id, predictions, statuses or {})
        predicted = None
        if predictions is not None and not unknown:
            predicted = predictions.get(subject.image_id, Predictions())
            predicted = predicted[predicted.scores >= min_score]
        yield subject.image_id, overlay(image.pixels, subject.truth, predicted, height, width, longest,
                                        subject.image_id, unknown)


def _unknown(image_id: str, predictions: PredictionSet | None, statuses: Mapping[str, Status]) -> str:
    """Why it is not known what an image shows; empty if it was predicted, or if there are no predictions."""
    if predictions is None:
        return ""
    if image_id in statuses:
        return "not read" if statuses[image_id].status == FAILED else ""
    return "" if image_id in predictions else "not predicted"


def write_overlays(out: str | Path, drawn: Iterable[tuple[str, NDArray[np.uint8]]]) -> int:
    """Write ``<image_id>.png`` of each of :func:`pictures`; returns their number."""
    count = 0
    for image_id, picture in drawn:
        write_png(Path(out) / f"{image_id}.png", picture)
        count += 1
    return count


def write_grid(out: str | Path, drawn: Iterable[tuple[str, NDArray[np.uint8]]], columns: int) -> int:
    """Write all of :func:`pictures` to ``grid.png``, row by row; returns their number.

    Raises:
        InputError: there is no picture.
    """
    cells = [picture for _, picture in drawn]
    if not cells:
        raise InputError(f"{out}: there is no picture for grid.png, expected images that can be read")
    write_png(Path(out) / "grid.png", grid_of(cells, columns))
    return len(cells)


def augmentation_grid(
    cfg: Any, items: Sequence[tuple[Record, Path]], columns: int = 5, cell: int = 300
) -> NDArray[np.uint8]:
    """What a config's augmentation makes of images: one row per image, plain and then augmented.

    Args:
        cfg: a detector's config.
        items: records, each with its image's path.
        columns: augmented samples per row.
        cell: longest side of a sample in pixels.

    Raises:
        InputError: there is no image.
    """
    from vindr_det.detection.samples import SampleReader

    if not items:
        raise InputError("there is no annotated image to augment")
    plain, augmented = (SampleReader.from_config(cfg, is_train) for is_train in (False, True))
    rows = []
    for row, (record, path) in enumerate(items):
        readers = [plain] + [augmented] * columns
        cells = [_sample_cell(reader, record, path, row * columns + column, cell)
                 for column, reader in enumerate(readers)]
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows)


def _sample_cell(reader: Any, record: Record, path: Path, seed: int, cell: int) -> NDArray[np.uint8]:
    """One sample with its boxes, padded to the size of a cell of the grid."""
    truth = record.truth
    sample = reader(path, record.height, record.width, truth.boxes, truth.labels, seed)
    boxes = Predictions(sample.boxes, np.ones(len(sample.boxes)), sample.labels, truth.label_set)
    height, width = sample.image.shape
    picture = overlay(sample.image, boxes, None, height, width, longest=cell)
    return np.pad(picture, ((0, cell + _STRIP - picture.shape[0]), (0, cell + 8 - picture.shape[1]), (0, 0)))


def _draw(picture: NDArray[np.uint8], layers: Sequence[_Layer], factor: float) -> None:
    """Draw all boxes, then their labels: above true boxes, below predicted ones, none over another."""
    taken: list[tuple[int, int, int, int]] = []
    corners = [box_ops.scale(layer.boxes.boxes, factor, factor).round().astype(int) for layer in layers]
    for layer, boxes in zip(layers, corners, strict=True):
        for x0, y0, x1, y1 in boxes.tolist():
            cv2.rectangle(picture, (x0, y0), (x1, y1), layer.color, 2, cv2.LINE_AA)
    for layer, boxes in zip(layers, corners, strict=True):
        for (x0, y0, _, y1), score, label in zip(boxes.tolist(), layer.boxes.scores, layer.boxes.labels,
                                                 strict=True):
            text = layer.boxes.label_set.findings[label] + (f" {score:.2f}" if layer.scored else "")
            taken.append(_label(picture, text, (x0, y1 + 14 if layer.scored else y0 - 5), layer.color, taken))


def _label(
    picture: NDArray[np.uint8], text: str, at: tuple[int, int], color: tuple[int, int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Write a text at the free place that is next to ``at``, above or below; returns its rectangle (xyxy)."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.45 if max(picture.shape) >= 600 else 0.35
    (wide, high), _ = cv2.getTextSize(text, font, size, 1)
    x = int(np.clip(at[0], 0, max(0, picture.shape[1] - wide)))
    lines = sorted(range(-20, 21), key=abs)
    places = [int(np.clip(at[1] + line * (high + 5), high + 2, picture.shape[0] - 4)) for line in lines]
    y = next((y for y in places if _is_free((x, y - high - 2, x + wide, y + 3), taken)), places[0])
    cv2.rectangle(picture, (x, y - high - 2), (x + wide, y + 3), (0, 0, 0), -1)
    cv2.putText(picture, text, (x, y), font, size, color, 1, cv2.LINE_AA)
    return x, y - high - 2, x + wide, y + 3


def _is_free(place: tuple[int, int, int, int], taken: Sequence[tuple[int, int, int, int]]) -> bool:
    x0, y0, x1, y1 = place
    return not any(x0 <= right and left <= x1 and y0 <= bottom and top <= y1
                   for left, top, right, bottom in taken)


def _legend(layers: Sequence[_Layer], unknown: str) -> list[tuple[str, tuple[int, int, int]]]:
    """The legend's texts and their colors."""
    texts = [(("predicted" if layer.scored else "true") + ("" if len(layer.boxes) else ": none"), layer.color)
             for layer in layers]
    return texts + [(unknown, PREDICTED_COLOR)] * bool(unknown)


def _with_legend(
    picture: NDArray[np.uint8], layers: Sequence[_Layer], unknown: str
) -> NDArray[np.uint8]:
    strip = np.zeros((_STRIP, picture.shape[1], 3), np.uint8)
    x = 6
    for text, color in _legend(layers, unknown):
        cv2.putText(strip, text, (x, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
        x += 18 + 10 * len(text)
    return np.concatenate([picture, strip])
