"""Boxes on an image: line styles, labels, legend."""

import itertools

import cv2
import numpy as np
import pytest
from metric_cases import P, T

from vindr_det.imaging import drawing
from vindr_det.imaging.drawing import TITLE_HEIGHT, draw
from vindr_det.imaging.label_places import distances, nearer_to_others, overlap_areas, place_labels
from vindr_det.imaging.lettering import paste, text_size, text_strip
from vindr_det.imaging.palette import color_of
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.outcomes import Outcome

IMAGE = np.random.default_rng(0).integers(60, 90, (300, 240), np.uint8)
BOX = (40, 100, 140, 220)


def share(picture, color, box=BOX):
    """Of a box's perimeter that has a color."""
    x0, y0, x1, y1 = box
    lines = [picture[y0, x0:x1], picture[y1, x0:x1], picture[y0:y1, x0], picture[y0:y1, x1]]
    return float((np.concatenate(lines) == color).all(axis=1).mean())


@pytest.fixture
def texts(monkeypatch):
    """Every text that is drawn."""
    written, strip = [], drawing.text_strip
    monkeypatch.setattr(drawing, "text_strip",
                        lambda text, *rest: (written.append(text), strip(text, *rest))[1])
    return written


@pytest.mark.parametrize("boxes", [P(), P((14, 1, 0, 0, 1, 1))])
def test_nothing_to_draw(boxes):
    """Only "no finding", which is no box: the image itself, in three channels."""
    picture = draw(IMAGE, boxes, longest=300, legend=False)
    assert np.array_equal(picture, np.repeat(IMAGE[..., None], 3, axis=2))


def test_arguments_are_left_alone():
    image, boxes = IMAGE.copy(), P((3, 0.9, *BOX))
    draw(image, boxes)
    draw(np.repeat(image[..., None], 3, axis=2), boxes)
    assert np.array_equal(image, IMAGE) and boxes.boxes.tolist() == [list(BOX)]


def test_color_images_stay_as_they_are():
    image = np.random.default_rng(0).integers(0, 255, (300, 240, 3), np.uint8)
    picture = draw(image, P((3, 0.9, *BOX)), longest=300, legend=False)
    assert np.array_equal(picture[230:], image[230:]) and share(picture, color_of(3)) > 0.9


def test_boxes_are_in_pixels_of_the_frame():
    """Of a square file of an original that is taller than wide: the picture has the original's shape."""
    square = cv2.resize(IMAGE, (100, 100))
    picture = draw(square, P((3, 0.9, 400, 1000, 1400, 2200)), frame=(3000, 2400), longest=300, legend=False)
    assert picture.shape == (300, 240, 3) and share(picture, color_of(3)) > 0.9


@pytest.mark.parametrize("outcome, low, high, label", [
    (Outcome.PREDICTED, 0.9, 1, "Cardiomegaly 0.90"), (Outcome.TRUE, 0.9, 1, "Cardiomegaly"),
    (Outcome.TRUE_POSITIVE, 0.9, 1, "Cardiomegaly 0.90"),
    (Outcome.FALSE_POSITIVE, 0.4, 0.75, "FP Cardiomegaly 0.90"),
    (Outcome.NOT_JUDGED, 0.4, 0.8, "Cardiomegaly 0.90"), (Outcome.DETECTED, 0.3, 0.7, None),
    (Outcome.MISSED, 0.3, 0.7, "FN Cardiomegaly")])
def test_line_styles_and_labels_tell_outcomes(texts, outcome, low, high, label):
    """The share of the line that is colored; a true box that is detected has no label of its own."""
    picture = draw(IMAGE, P((3, 0.9, *BOX)), [outcome], longest=300)
    assert low <= share(picture, color_of(3)) <= high
    assert texts == [label] * (label is not None) + [outcome.value]


@pytest.mark.parametrize("outcome", [Outcome.PREDICTED, Outcome.FALSE_POSITIVE, Outcome.MISSED])
@pytest.mark.parametrize("longest", [420, 900])
def test_lines_have_more_color_than_black(outcome, longest):
    """Of the pixels that a box changes on a gray image."""
    gray = np.full((300, 240), 120, np.uint8)
    picture = draw(gray, P((3, 0.9, *BOX)), [outcome], longest=longest, legend=False)
    lines = picture[round(150 / 300 * longest) : round(200 / 300 * longest)].reshape(-1, 3)  # below the label
    colored, black = ((lines == color).all(axis=1).sum() for color in (color_of(3), (0, 0, 0)))
    assert colored >= 1.3 * black > 0


@pytest.mark.parametrize("gray", [0, 255])
def test_a_detected_true_box_is_seen_on_dark_and_bright(gray):
    """Along its left side: white shows on dark, the finding's color on bright."""
    picture = draw(np.full((300, 240), gray, np.uint8), P((3, 0.9, *BOX)), [Outcome.DETECTED], longest=900,
                   legend=False)
    column = picture[:, round(3 * BOX[0])][round(3 * BOX[1]) : round(3 * BOX[3])]
    differs = (column.astype(int) != gray).any(axis=1).mean()
    assert differs >= (0.99 if gray == 0 else 0.45)


def test_outcomes_must_be_as_many_as_boxes():
    with pytest.raises(ValueError, match="shorter"):
        draw(IMAGE, P((3, 0.9, *BOX)), [])


def test_title_legend_and_notes_are_outside_the_image(texts):
    picture = draw(IMAGE, P(), longest=300, title="x", notes=["predicted: none"])
    assert texts == ["predicted: none"]
    assert np.array_equal(picture[TITLE_HEIGHT : TITLE_HEIGHT + 300, :, 0], IMAGE)
    assert picture[:TITLE_HEIGHT].any() and picture[TITLE_HEIGHT + 300 :].any()


def crowd(count, height, width, seed=0):
    """Boxes on the middle of an image, as findings are, many over each other."""
    rng = np.random.default_rng(seed)
    low = rng.uniform([0.15 * width, 0.15 * height], [0.7 * width, 0.7 * height], (count, 2))
    return np.hstack([low, low + rng.uniform(0.03, 0.25, (count, 2)) * [width, height]]).astype(int)


@pytest.mark.parametrize("boxes", [
    np.zeros((0, 4), int), crowd(1, 900, 800), crowd(12, 900, 800), crowd(30, 900, 800),
    np.array([[300, 300, 500, 500]] * 12),
    np.array([[0, 0, 800, 900]] * 3), np.array([[795, 895, 800, 900], [0, 0, 2, 2]])])
def test_labels_hide_neither_each_other_nor_the_boxes(boxes):
    size = (150, 16)
    places = place_labels(boxes, [size] * len(boxes), 900, 800)
    assert (places[:, :2] >= 0).all() and (places[:, 2:] <= [800, 900]).all()
    assert (places[:, 2:] - places[:, :2] == size).all()
    assert not np.triu(overlap_areas(places, places), 1).any()
    low = np.clip(np.column_stack([boxes[:, 0], boxes[:, 1] - 16]), 0, [800 - 150, 900 - 16])
    naive = np.hstack([low, low + size])  # each above its box
    assert overlap_areas(places, boxes).sum() <= overlap_areas(naive, boxes).sum()


def test_a_label_is_beside_its_box_where_there_is_room():
    boxes = np.array([[100, 100, 200, 200], [500, 400, 700, 800]])
    places = place_labels(boxes, [(90, 16)] * 2, 900, 800)
    assert distances(places, boxes).max() <= 2 and not overlap_areas(places, boxes).any()


@pytest.mark.parametrize("seed", range(5))
def test_labels_leave_the_corners_of_boxes_free(seed):
    """Of twelve boxes, where overlaps alone as a measure left three corners hidden."""
    boxes = crowd(12, 900, 800, seed)
    places = place_labels(boxes, [(150, 16)] * 12, 900, 800)
    corners = np.vstack([boxes[:, [column, row]] for column in (0, 2) for row in (1, 3)])
    hidden = (places[:, None, :2] <= corners) & (corners < places[:, None, 2:])
    assert not hidden.all(axis=2).any()


def test_a_label_that_is_nearer_to_another_box_has_a_line_to_its_own():
    boxes = np.array([[100, 100, 200, 200], [250, 100, 300, 200], [500, 500, 520, 520]])
    places = np.array([[206, 90, 249, 106], [302, 100, 340, 116], [526, 500, 560, 516]])
    assert nearer_to_others(places, boxes).tolist() == [True, False, False]
    assert nearer_to_others(places[:0], boxes[:0]).tolist() == []


def test_crowded_labels_are_numbers_with_a_key(texts):
    """Of thirty boxes on a small picture; on a large one, of few, and without a legend they are names."""
    boxes = crowd(30, 400, 300)
    many = Predictions(boxes, np.linspace(0.9, 0.3, 30), np.arange(30) % 14)
    picture = draw(np.zeros((400, 300), np.uint8), many, longest=400)
    names = [many.label_set.findings[label] for label in many.labels]
    assert texts[:30] == [str(number) for number in range(1, 31)]
    assert texts[30:60] == [f"{row}  {name} {score:.2f}" for row, (name, score) in
                            enumerate(zip(names, many.scores, strict=True), 1)]
    assert picture.shape[1] == 300 and picture.shape[0] > 500  # the key is below
    for arguments in ({"longest": 400, "legend": False}, {"longest": 3000}):
        texts.clear()
        draw(np.zeros((400, 300), np.uint8), many, **arguments)
        assert texts[:30] == [f"{name} {score:.2f}" for name, score in zip(names, many.scores, strict=True)]


def test_names_may_be_in_any_alphabet(texts):
    label_set = LabelSet("own", ("Tràn dịch màng phổi", "Пневмоторакс"))
    draw(IMAGE, Predictions(np.array([BOX, BOX]), np.ones(2), np.arange(2), label_set), longest=300)
    assert texts[:2] == ["Tràn dịch màng phổi 1.00", "Пневмоторакс 1.00"]
    glyphs = [text_strip(sign, 13, (255, 255, 255), (0, 0, 0)) for sign in "ịПa?\uffff"]
    assert all(glyph.shape != glyphs[-1].shape or (glyph != glyphs[-1]).any() for glyph in glyphs[:4])


def test_strips_are_cut_off_at_the_edge():
    strip = text_strip("Nodule", 13, (255, 255, 255), (9, 9, 9))
    assert strip.shape[1::-1] == text_size("Nodule", 13)
    for x, y in ((-5, -5), (90, 95), (200, 0)):
        picture, large = np.zeros((100, 100, 3), np.uint8), np.zeros((400, 400, 3), np.uint8)
        paste(picture, strip, x, y)
        large[100 + y : 100 + y + strip.shape[0], 100 + x : 100 + x + strip.shape[1]] = strip
        assert np.array_equal(picture, large[100:200, 100:200])


def test_true_boxes_alone():
    picture = draw(IMAGE, T((3, *BOX)), [Outcome.TRUE], longest=300)
    assert share(picture, color_of(3)) > 0.9


@pytest.mark.parametrize("width", [180, 300, 403, 600])
def test_a_long_note_begins_each_row_of_the_legend_with_its_next_words(width):
    note = "flagged: this bundle has seen synthetic images (phantoms) alone: its output says nothing on you"
    lines = drawing._lines(note, 12, width)
    assert " ".join(lines) == note and all(text_size(line, 12)[0] <= width for line in lines)
    for line, after in itertools.pairwise(lines):  # a row has no place left for the first word of the next
        assert text_size(f"{line} {after.split()[0]}", 12)[0] > width
    assert drawing._lines("1.2." * 40, 12, width)[0].startswith("1.2.1.2.")
