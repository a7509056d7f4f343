"""Boxes drawn on one image: a color per finding, a line style per outcome, labels that hide nothing.

:func:`draw` is what every picture with boxes is made by.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.imaging.label_places import Ints, distances, nearer_to_others, overlap_areas, place_labels
from vindr_det.imaging.lettering import paste, text_size, text_strip
from vindr_det.imaging.montage import title_strip
from vindr_det.imaging.palette import Color, color_of, text_color_on
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions
from vindr_det.structures.outcomes import Outcome

Picture = NDArray[np.uint8]

WHITE, DARK = (255, 255, 255), (16, 16, 16)
TITLE_HEIGHT = 22
#: In the legend, between the dashes of a line that has two colors.
_BETWEEN = 128
#: Labels may cover so much of the picture, and lie so far from their boxes on average, before numbers replace
#: them.
_MAX_COVERED, _MAX_DISTANCE = 0.09, 25
_LEADER = 8
#: Between the texts of the legend.
_GAP = 4
#: From this longest side on, pixels, lines are three pixels wide, below it two.
_LARGE = 450


@dataclass(frozen=True)
class _Style:
    """How a box of an outcome is drawn.

    Attributes:
        thickness: of its line.
        dashes: pixels on and off in turn; empty for a solid line.
        tag: before the finding's name; None for a box without a label.
        filled: whether the label has the finding's color, not only its frame.
    """

    thickness: int
    dashes: tuple[int, ...] = ()
    tag: str | None = ""
    filled: bool = True


_STYLES = {
    Outcome.PREDICTED: _Style(2),
    Outcome.TRUE: _Style(2),
    Outcome.TRUE_POSITIVE: _Style(2),
    Outcome.FALSE_POSITIVE: _Style(2, (10, 7), "FP ", False),
    Outcome.NOT_JUDGED: _Style(2, (12, 4, 3, 4)),
    Outcome.DETECTED: _Style(1, (3, 3), None),
    Outcome.MISSED: _Style(2, (3, 4), "FN ", False),
}
_SCORED = (Outcome.PREDICTED, Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE, Outcome.NOT_JUDGED)


@dataclass(frozen=True)
class _Box:
    """A box as it is drawn.

    Attributes:
        corners: xyxy in the picture's pixels.
        color: of its finding.
        style: of its outcome.
        text: of its label.
    """

    corners: tuple[int, int, int, int]
    color: Color
    style: _Style
    text: str

    def label(self, text: str, size: int) -> Picture:
        """Its label, (H, W, 3): filled with the color, or framed by it."""
        if self.style.filled:
            return text_strip(text, size, text_color_on(self.color), self.color)
        strip = text_strip(text, size, WHITE, DARK).copy()
        cv2.rectangle(strip, (0, 0), (strip.shape[1] - 1, strip.shape[0] - 1), self.color, 1)
        return strip


def draw(
    image: NDArray[np.uint8], boxes: Predictions, outcomes: Sequence[Outcome] | None = None, *,
    frame: tuple[int, int] | None = None, longest: int = 900, title: str = "", notes: Sequence[str] = (),
    legend: bool = True,
) -> Picture:
    """Draw boxes on a copy of an image.

    Args:
        image: (H, W) or (H, W, 3) RGB, uint8, any size.
        boxes: (N, 4) xyxy, in pixels of ``frame``; rows of "no finding" are not drawn.
        outcomes: (N,) what each box is, such as of :func:`vindr_det.metrics.outcomes.judge`; None takes all
            for predicted.
        frame: (height, width) of the image that the boxes are of; None takes the image's own.
        longest: longest side of the drawn image.
        title: written above; empty for none.
        notes: texts for the legend, such as "predicted: none".
        legend: whether there is one, below the image. Crowded labels are numbers with a key in it; without it
            they stay names.

    Returns:
        (H', W', 3) uint8, RGB.
    """
    height, width = frame or image.shape[:2]
    factor = longest / max(height, width)
    picture = _resized(image, max(1, round(height * factor)), max(1, round(width * factor)))
    given = [Outcome.PREDICTED] * len(boxes) if outcomes is None else outcomes
    drawn = _prepared(boxes, given, factor)
    for box in sorted(drawn, key=lambda box: box.style.thickness):
        _outline(picture, box)
    numbers = _add_labels(picture, [box for box in drawn if box.style.tag is not None], legend)
    strips = [picture]
    if title:
        strips.insert(0, title_strip(title, picture.shape[1], TITLE_HEIGHT))
    if legend:
        strips.append(_legend(picture.shape[1], numbers, [kind for kind in Outcome if kind in given], notes))
    return np.concatenate(strips)


def none_note(boxes: Predictions, score: float) -> str:
    """What the legend says of an image without a box from a score on; empty where there is one.

    Args:
        boxes: all detections of the image; rows of "no finding" do not count.
        score: boxes with a lower score are not drawn.
    """
    scores = boxes.findings().scores
    if (scores >= score).any():
        return ""
    return "predicted: none" + (f" from score {score:g} on ({len(scores)} below)" if len(scores) else "")


def font_size(picture: NDArray) -> int:
    """Pixels of the letters on a picture."""
    longest = max(picture.shape[:2])
    return 13 if longest >= 600 else 11 if longest >= 300 else 10


def _resized(image: NDArray[np.uint8], height: int, width: int) -> Picture:
    shown = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB) if shown.ndim == 2 else np.ascontiguousarray(shown)


def _prepared(boxes: Predictions, outcomes: Sequence[Outcome], factor: float) -> list[_Box]:
    """The findings among the boxes, in the picture's pixels."""
    corners = box_ops.scale(boxes.boxes, factor, factor).round().astype(int).tolist()
    rows = []
    for row, (label, outcome) in enumerate(zip(boxes.labels.tolist(), outcomes, strict=True)):
        if label == boxes.label_set.no_finding_id:
            continue
        style, score = _STYLES[outcome], f" {boxes.scores[row]:.2f}" if outcome in _SCORED else ""
        text = f"{style.tag or ''}{boxes.label_set.classes[label]}{score}"
        rows.append(_Box(tuple(corners[row]), color_of(label), style, text))
    return rows


def _outline(picture: Picture, box: _Box) -> None:
    """A box's line with a black edge, so that it shows on bright and dark; a fine line has white between its
    dashes instead, so that it is seen on dark lung and is not taken for a dashed one."""
    style = box.style
    line, edge = _bands(style, picture)
    fine = edge == line
    for side in _sides(picture, box.corners, line[0], edge):
        _dash(side, () if fine else style.dashes, WHITE if fine else (0, 0, 0))
    for side in _sides(picture, box.corners, line[0], line):
        _dash(side, style.dashes, box.color)


def _bands(style: _Style, picture: Picture) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last pixel of a line, counted inward from the box's border, and of it with its edge."""
    if style.thickness == 1:
        return ((0, 1), (0, 1)) if max(picture.shape[:2]) >= _LARGE else ((0, 0), (0, 0))
    return ((-1, 1), (-2, 2)) if max(picture.shape[:2]) >= _LARGE else ((0, 1), (-1, 1))


def _sides(
    picture: Picture, corners: tuple[int, int, int, int], start: int, band: tuple[int, int]
) -> list[Picture]:
    """Views (width, length, 3) of the four sides of a box, each from ``start`` on, of a band along it."""
    x0, y0, x1, y1 = corners
    first, last = band
    across, down = _pixels(x0 + start, x1 - start), _pixels(y0 + start, y1 - start)
    return [picture[_pixels(y0 + first, y0 + last), across], picture[_pixels(y1 - last, y1 - first), across],
            picture[down, _pixels(x0 + first, x0 + last)].swapaxes(0, 1),
            picture[down, _pixels(x1 - last, x1 - first)].swapaxes(0, 1)]


def _pixels(first: int, last: int) -> slice:
    """Those from the first to the last that a picture can have."""
    return slice(max(0, first), max(0, last + 1))


def _dash(line: Picture, dashes: tuple[int, ...], color: Color) -> None:
    """Color the dashes of a line, (width, length, 3), in place; without dashes all of it."""
    on = np.concatenate([np.full(length, part % 2 == 0) for part, length in enumerate(dashes or (1,))])
    line[:, np.resize(on, line.shape[1])] = color


def _add_labels(picture: Picture, drawn: Sequence[_Box], may_number: bool) -> list[Picture]:
    """Write the labels; where names would crowd the picture, numbers, whose key is returned as labels."""
    names = [box.text for box in drawn]
    places = None if may_number and _too_much(picture, names) else _places(picture, drawn, names)
    if places is not None and not (may_number and _is_crowded(drawn, places)):
        _write(picture, drawn, names, places)
        return []
    numbers = [str(row) for row in range(1, len(drawn) + 1)]
    _write(picture, drawn, numbers, _places(picture, drawn, numbers))
    return [box.label(f"{number}  {box.text}", font_size(picture))
            for number, box in zip(numbers, drawn, strict=True)]


def _too_much(picture: Picture, names: Sequence[str]) -> bool:
    """Whether labels would cover too much, wherever they are."""
    area = sum(wide * high for wide, high in (text_size(name, font_size(picture)) for name in names))
    return len(names) > 1 and area > _MAX_COVERED * picture.shape[0] * picture.shape[1]


def _is_crowded(drawn: Sequence[_Box], places: Ints) -> bool:
    """Whether labels overlap, or lie too far from their boxes."""
    if len(drawn) < 2:
        return False
    clashes = np.triu(overlap_areas(places, places), 1).any()
    return bool(clashes or distances(places, _corners(drawn)).mean() > _MAX_DISTANCE)


def _places(picture: Picture, drawn: Sequence[_Box], texts: Sequence[str]) -> Ints:
    """(N, 4) places of the labels, xyxy."""
    sizes = [text_size(text, font_size(picture)) for text in texts]
    return place_labels(_corners(drawn), sizes, *picture.shape[:2])


def _corners(drawn: Sequence[_Box]) -> Ints:
    return np.array([box.corners for box in drawn], np.int64).reshape(-1, 4)


def _write(picture: Picture, drawn: Sequence[_Box], texts: Sequence[str], places: Ints) -> None:
    """Put labels at their places, each with a line to its box where it is not beside it."""
    corners = _corners(drawn)
    apart = (distances(places, corners) > _LEADER) | nearer_to_others(places, corners)
    for box, place, corner, with_line in zip(drawn, places, corners, apart, strict=True):
        if with_line:
            start = np.clip(_middle(corner), place[:2], place[2:])
            end = np.clip(_middle(place), corner[:2], corner[2:])
            for color, thickness in (((0, 0, 0), 3), (box.color, 1)):
                cv2.line(picture, tuple(start.tolist()), tuple(end.tolist()), color, thickness, cv2.LINE_AA)
    for box, text, place in zip(drawn, texts, places.tolist(), strict=True):
        paste(picture, box.label(text, font_size(picture)), place[0], place[1])


def _middle(box: Ints) -> Ints:
    return (box[:2] + box[2:]) // 2


def _legend(
    width: int, numbers: Sequence[Picture], outcomes: Sequence[Outcome], notes: Sequence[str]
) -> Picture:
    """Strips below the image: the key of the numbers, what the line styles mean, and the notes."""
    size = 12 if width >= 400 else 10
    lines = [line for note in notes for line in _lines(note, size, width - 2 * _GAP)]
    kinds = [_sample(outcome, size) for outcome in outcomes]
    texts = [text_strip(line, size, WHITE, (0, 0, 0)) for line in lines]
    return np.concatenate([_flow(numbers, width), _flow([*kinds, *texts], width)])


def _lines(note: str, size: int, width: int) -> list[str]:
    """A note in lines that fill the width, so that the next one's words do not follow on the same row."""
    letters, lines = max(10, 2 * width // (size + 3)), [""]
    for word in (part for whole in note.split() for part in textwrap.wrap(whole, letters)):
        longer = f"{lines[-1]} {word}".strip()
        if text_size(longer, size)[0] <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [line for line in lines if line]


def _sample(outcome: Outcome, size: int) -> Picture:
    """A piece of an outcome's line and its name."""
    text = text_strip(outcome.value, size, WHITE, (0, 0, 0))
    line = np.zeros((text.shape[0], 36, 3), np.uint8)
    style = _STYLES[outcome]
    middle, half = text.shape[0] // 2, style.thickness // 2
    band = line[_pixels(middle - half, middle + half), 4:34]
    band[:] = _BETWEEN if style.thickness == 1 else 0  # in a picture it has white between
    _dash(band, style.dashes, WHITE)
    return np.concatenate([line, text], axis=1)


def _flow(parts: Sequence[Picture], width: int, gap: int = _GAP) -> Picture:
    """Strips side by side, in as many rows as they take."""
    rows: list[list[Picture]] = []
    left = width + 1
    for part in parts:
        if left + part.shape[1] > width:
            rows.append([])
            left = gap
        rows[-1].append(part)
        left += part.shape[1] + gap
    high = max((part.shape[0] for part in parts), default=0) + gap
    strip = np.zeros((high * len(rows) + gap * bool(rows), width, 3), np.uint8)
    for row, members in enumerate(rows):
        left = gap
        for part in members:
            paste(strip, part, left, gap + row * high)
            left += part.shape[1] + gap
    return strip
