"""Images with true and predicted boxes drawn on them, and a config's augmentation on a grid."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.data.coco import image_sizes
from vindr_det.evaluation.picture_index import NOT_PREDICTED, Entry, index_page, is_of, pictures_of
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of, write_png, write_text
from vindr_det.imaging.drawing import draw, none_note
from vindr_det.imaging.inputs import Input
from vindr_det.imaging.montage import grid_of
from vindr_det.imaging.read import read_image
from vindr_det.imaging.sizes import shapes_of
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status
from vindr_det.imaging.subject_check import mismatch
from vindr_det.limits import require_seed
from vindr_det.metrics.outcomes import judge
from vindr_det.parallel import Failure, guarded
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.outcomes import Outcome
from vindr_det.structures.records import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """An image to draw.

    Attributes:
        image_id: its id, which is the title.
        path: of its file.
        truth: boxes in pixels of the original; None where they are not known.
        unknown: class ids for which the true boxes are incomplete.
    """

    image_id: str
    path: Path
    truth: Predictions | None = None
    unknown: tuple[int, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """An image with its boxes.

    Attributes:
        entry: what the index page says about it.
        picture: (H, W, 3) uint8, BGR; None for an image that cannot be read.
    """

    entry: Entry
    picture: NDArray[np.uint8] | None


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
    return [_subject(image_id, paths[image_id], truth.get(image_id)) for image_id in chosen]


def _subject(image_id: str, path: Path, record: Record | None) -> Subject:
    known = () if record is None else (record.truth, record.unknown)
    return Subject(image_id, path, *known)


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
    given: Mapping[str, tuple[int, int]], annotations: str | Path | None
) -> dict[str, tuple[int, int]]:
    """Image id -> (height, width) of the original: as given, else by annotations.

    Args:
        given: sizes that count whatever the others say, such as those of a table.
        annotations: a COCO JSON, whose images have sizes; other files say nothing. None for none.
    """
    annotated = shapes_of(image_sizes(annotations)) if annotations else {}
    return {**annotated, **given}


def _notes(truth: Predictions | None, predicted: "_Predicted") -> list[str]:
    """What the legend says beside the boxes."""
    empty = truth is not None and not len(truth.findings())
    return ["true: none"] * empty + [note for note in (predicted.none, predicted.unknown) if note]


def pictures(
    subjects: Sequence[Subject], predictions: PredictionSet | None, sizes: Mapping[str, tuple[int, int]],
    min_score: float, longest: int = 900, statuses: Mapping[str, Status] | None = None,
) -> Iterator[Drawing]:
    """Each image with its boxes; of an image that cannot be read there is no picture, and a warning.

    Args:
        subjects: the images.
        predictions: image id -> detections; None where there are no predictions.
        sizes: image id -> (height, width) of the original, for images that were made smaller.
        min_score: predictions below are left out.
        longest: longest side of a picture.
        statuses: of the run that predicted, see :func:`vindr_det.imaging.status.read_statuses`. An image that
            failed there was not read, and one that is in neither was not predicted, nor one whose size or UID
            is not that of its row: the legend says so.
    """
    for subject in subjects:
        image = guarded(read_image, subject.path)
        if isinstance(image, Failure):
            log.warning("no picture: %s", image.reason)
            yield Drawing(Entry(subject.image_id, "", FAILED, image.reason), None)
            continue
        row = (statuses or {}).get(subject.image_id)
        other = mismatch(subject.path, (image.height, image.width), row) if row else ""
        if other:
            log.warning("%s: drawn without predictions, which are of another image: %s", subject.path, other)
            row = None
        status = row or Status(subject.image_id, subject.path.name, NOT_PREDICTED, other)
        size = sizes.get(subject.image_id) or _predicted_size(row) or (image.height, image.width)
        yield _drawing(subject, image.pixels, size, _Predicted.of(status, predictions, min_score), longest)


def _predicted_size(row: Status | None) -> tuple[int, int] | None:
    return (row.height, row.width) if row and row.height and row.width else None


@dataclass(frozen=True)
class _Predicted:
    """What is known of an image's predictions.

    Attributes:
        boxes: from the score on; None where nothing was predicted.
        status: of the index page.
        reason: likewise.
        unknown: why nothing is predicted; empty if it is, or if there are no predictions.
        none: what the legend says where there is no box; else empty.
    """

    boxes: Predictions | None
    status: str
    reason: str = ""
    unknown: str = ""
    none: str = ""

    @classmethod
    def of(cls, status: Status, predictions: PredictionSet | None, min_score: float) -> "_Predicted":
        """Of an image's row in the status table, or of a row :data:`NOT_PREDICTED` if it has none."""
        if predictions is None:
            return cls(None, "")
        if status.status == FAILED:
            return cls(None, FAILED, status.reason, "not read")
        if status.status == NOT_PREDICTED and (status.reason or status.image_id not in predictions):
            reason = f": the predictions are of another image ({status.reason})" if status.reason else ""
            return cls(None, NOT_PREDICTED, status.reason, NOT_PREDICTED + reason)
        boxes = predictions.get(status.image_id, Predictions())
        known = OK if status.status == NOT_PREDICTED else status.status
        return cls(boxes[boxes.scores >= min_score], known, status.reason, none=none_note(boxes, min_score))


def _drawing(
    subject: Subject, pixels: NDArray[np.uint8], size: tuple[int, int], predicted: _Predicted, longest: int
) -> Drawing:
    boxes, outcomes = judge(predicted.boxes, subject.truth, subject.unknown)
    notes = _notes(subject.truth, predicted)
    shown = notes + [f"flagged: {predicted.reason}"] * (predicted.status == FLAGGED)
    picture = draw(pixels, boxes, outcomes, frame=size, longest=longest, title=subject.image_id, notes=shown)
    names = [boxes.label_set.classes[label] for label in boxes.labels]
    entry = Entry(subject.image_id, f"{subject.image_id}.png", predicted.status, predicted.reason, notes,
                  tuple(zip(names, outcomes, strict=True)), picture.shape[:2])
    return Drawing(entry, picture[..., ::-1])


def unreadable(inputs: Sequence[Input], records: Sequence[Record] | None) -> list[Drawing]:
    """What the index page says of files that no picture can be made of.

    Args:
        inputs: of a run; those that can be read are left out.
        records: truth, which leaves out all images without; None where there is none.
    """
    known = None if records is None else {record.image_id for record in records}
    return [Drawing(Entry(source.image_id, "", FAILED, source.problem), None) for source in inputs
            if source.problem and (known is None or source.image_id in known)]


def failed(statuses: Iterable[Status]) -> list[Drawing]:
    """What the index page says of the images of a run that were not read."""
    return [Drawing(Entry(row.image_id, "", FAILED, row.reason), None) for row in statuses
            if row.status == FAILED]


def write_overlays(out: str | Path, drawn: Iterable[Drawing], predictions: str | Path = "") -> int:
    """Write ``<image_id>.png`` of each of :func:`pictures` and an ``index.html``; returns their number.

    The pictures of an earlier index are removed: none may stand for an image that is no longer read.

    Args:
        out: the folder.
        drawn: the pictures, and what there is none of.
        predictions: the file that the boxes are of; empty for none.
    """
    remove_overlays(out)
    entries = []
    for drawing in drawn:
        entries.append(drawing.entry)
        if drawing.picture is not None:
            write_png(Path(out) / drawing.entry.file, drawing.picture)
    write_text(Path(out) / "index.html", index_page(entries, Path(predictions).name))
    return sum(bool(entry.file) for entry in entries)


def remove_overlays(out: str | Path, predictions: str | Path = "") -> None:
    """Remove an ``index.html`` of :func:`write_overlays` and the pictures that it names, and nothing else.

    Args:
        out: the folder.
        predictions: remove them only where they are of a file of this name; empty removes any.
    """
    index = Path(out) / "index.html"
    page = index.read_text("utf-8", errors="replace") if index.is_file() else ""
    names = pictures_of(page)
    if names is None or (predictions and not is_of(page, Path(predictions).name)):
        return
    for name in [*names, index.name]:
        (index.parent / name).unlink(missing_ok=True)


def write_grid(out: str | Path, drawn: Iterable[Drawing], columns: int, side: int = 480) -> int:
    """Write all of :func:`pictures` to ``grid.png``, row by row; returns their number.

    Args:
        out: the folder.
        drawn: the pictures; an image that has none is a cell with the reason.
        columns: cells per row.
        side: of a cell without a picture.

    Raises:
        InputError: there is no picture.
    """
    drawn = list(drawn)
    count = sum(drawing.picture is not None for drawing in drawn)
    if not count:
        raise InputError(f"{out}: there is no picture for grid.png, expected images that can be read")
    cells = [_unread_cell(drawing.entry, side) if drawing.picture is None else drawing.picture
             for drawing in drawn]
    write_png(Path(out) / "grid.png", grid_of(cells, columns))
    return count


def _unread_cell(entry: Entry, side: int) -> NDArray[np.uint8]:
    """A black cell, BGR, with an image's name and why there is no picture of it."""
    return draw(np.zeros((side, side), np.uint8), Predictions(), longest=side, title=entry.image_id,
                notes=[f"{entry.status}: {entry.reason}"])[..., ::-1]


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
    readers = [plain] + [augmented] * columns
    cells = [_sample_cell(reader, record, path, row * columns + column, cell)
             for row, (record, path) in enumerate(items) for column, reader in enumerate(readers)]
    return grid_of(cells, len(readers))[..., ::-1]


def _sample_cell(reader: Any, record: Record, path: Path, seed: int, cell: int) -> NDArray[np.uint8]:
    """A sample with its boxes, (H, W, 3) RGB, its longest side that of a cell."""
    truth = record.truth
    sample = reader(path, record.height, record.width, truth.boxes, truth.labels, seed)
    boxes = Predictions(sample.boxes, np.ones(len(sample.boxes)), sample.labels, truth.label_set)
    return draw(sample.image, boxes, [Outcome.TRUE] * len(boxes), longest=cell, legend=False)
