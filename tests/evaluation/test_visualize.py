"""Pictures are written whole or not at all."""

import re

import cv2
import numpy as np
import pytest
from conftest import DEMO
from dicom_samples import write as write_sample
from metric_cases import P, T

from vindr_det.data.coco import to_coco
from vindr_det.evaluation.visualize import Subject, choose, pictures, remove_overlays
from vindr_det.exceptions import InputError
from vindr_det.files import write_json, write_png
from vindr_det.imaging import drawing
from vindr_det.imaging.montage import GAP, grid_of, title_strip
from vindr_det.imaging.palette import color_of
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status, write_status
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import VINBIGDATA, VINDR_CXR, LabelSet
from vindr_det.structures.records import Record
from vindr_det.submission import write_submission

PICTURE = np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8)


def shows(picture, color):
    """Whether a BGR picture has an RGB color somewhere."""
    return bool((np.abs(picture.astype(int) - color[::-1]).max(axis=2) <= 2).any())


def pictures_in(folder):
    return sorted(path.name for path in folder.glob("*.png"))


def test_a_picture_comes_back(tmp_path):
    write_png(tmp_path / "new/a.png", PICTURE)
    assert np.array_equal(cv2.imread(str(tmp_path / "new/a.png")), PICTURE)


def test_a_disk_that_takes_no_more_is_one_line(tmp_path):
    """A limit on the size of files stands for the full disk."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"a.png: cannot be written \(File too large\)"):
            write_png(tmp_path / "a.png", PICTURE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_images_may_be_one_file(tmp_path, tool):
    """Only this image is drawn, although its folder and the annotations have two."""
    for name in ("a", "b"):
        write_png(tmp_path / f"images/{name}.png", PICTURE[..., 0])
    records = [Record(name, f"{name}.png", 90, 80, T((3, 10, 10, 60, 60))) for name in ("a", "b")]
    write_json(tmp_path / "truth.json", to_coco(records))
    write_submission(tmp_path / "s.csv", {"a": P((5, 0.9, 20, 20, 70, 80), (6, 0.1, 0, 0, 10, 10))})
    run = tool("visualize.py", "--images", tmp_path / "images/a.png", "--annotations",
               tmp_path / "truth.json", "--predictions", tmp_path / "s.csv", "--out", tmp_path / "out")
    assert run.returncode == 0 and "1 pictures" in run.stdout, run.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["a.png"]


@pytest.mark.parametrize("place", ["coco", "status"])
def test_boxes_of_an_original_are_drawn_on_a_smaller_copy(tmp_path, tool, place):
    """Annotations or the status table tell the original's size; without them the box would lie outside."""
    write_png(tmp_path / "images/a.png", np.full((64, 64), 40, np.uint8))
    write_json(tmp_path / "truth.json", to_coco([Record("a", "a.png", 640, 640, T((3, 20, 20, 60, 60)))]))
    write_submission(tmp_path / "s.csv", {"a": P((5, 0.9, 320, 160, 480, 600))})
    options = ["--annotations", tmp_path / "truth.json"]
    if place == "status":
        write_status(tmp_path / "s.status.csv", [Status("a", "a.png", OK, height=640, width=640)])
        options = []
    run = tool("visualize.py", "--images", tmp_path / "images", "--predictions", tmp_path / "s.csv", "--side",
               640, "--out", tmp_path / "out", *options)
    assert run.returncode == 0, run.stderr
    picture = cv2.imread(str(tmp_path / "out/a.png"))
    picture = picture[22:662]  # without title and legend
    for x in (320, 480):  # the left and the right side
        assert (np.abs(picture[165:595, x].astype(int) - color_of(5)[::-1]).max(axis=1) <= 2).mean() > (
            0.9 if place == "status" else 0.4)  # a false positive is dashed
    assert not shows(picture[:, :150], color_of(5)) and not shows(picture[:, 650:], color_of(5))


@pytest.fixture
def images(tmp_path):
    """Four gray images, of which c has boxes and two more true ones than b."""
    for name in "abcd":
        write_png(tmp_path / f"images/{name}.png", np.full((90, 80), 40, np.uint8))
    truth = {"a": T(), "b": T((3, 10, 10, 60, 60)), "c": T((3, 20, 30, 60, 70), (0, 5, 5, 9, 9))}
    records = [Record(name, f"{name}.png", 90, 80, boxes) for name, boxes in truth.items()]
    write_json(tmp_path / "truth.json", to_coco(records))
    write_submission(tmp_path / "s.csv", {"a": P((5, 0.9, 20, 20, 70, 80)), "b": P((6, 0.1, 0, 0, 10, 10))})
    return tmp_path


def test_predictions_without_annotations(images, main_of):
    main_of("visualize.py", "--images", images / "images", "--predictions", images / "s.csv", "--out",
            images / "out", "--count", 3)
    pictures = {path.stem: cv2.imread(str(path)) for path in (images / "out").glob("*.png")}
    assert sorted(pictures) == ["a", "b", "c"]
    inside = {name: picture[22:-22] for name, picture in pictures.items()}  # without title and legend
    assert [shows(inside[name], color_of(5)) for name in "abc"] == [True, False, False]
    assert not any(shows(picture, color_of(label)) for picture in inside.values() for label in (0, 3, 6))


def written_texts(monkeypatch):
    """A list that gets every text that is drawn."""
    texts, strip = [], drawing.text_strip
    monkeypatch.setattr(drawing, "text_strip",
                        lambda text, *rest: (texts.append(text), strip(text, *rest))[1])
    return texts


def test_an_image_that_nobody_looked_at_is_not_drawn_as_normal(images, main_of, monkeypatch):
    """a has a box, b none above --score; c is Kaggle's row of a failed image; d is in no table."""
    texts = written_texts(monkeypatch)
    call = ["visualize.py", "--images", images / "images", "--out", images / "out", "--predictions"]
    none = "predicted: none from score 0.3 on (1 below)"
    legends = ("predicted", none, "predicted: none", "not read", "not predicted")

    def drawn(name):
        texts.clear()
        main_of(*call, images / name)
        return [text for text in texts if text in legends]

    assert drawn("s.csv") == ["predicted", none, "not predicted", "not predicted"]
    assert statuses_on_page(images / "out") == ["ok", "ok", "not predicted", "not predicted"]
    boxes = {"a": P((5, 0.9, 20, 20, 70, 80)), "b": P((6, 0.1, 0, 0, 10, 10)), "c": P((14, 1, 0, 0, 1, 1))}
    write_submission(images / "t.csv", boxes)
    write_status(images / "t.status.csv", [Status(name, f"{name}.png", FAILED if name == "c" else OK)
                                           for name in "abc"])
    assert drawn("t.csv") == ["predicted", none, "not read", "not predicted"]
    assert statuses_on_page(images / "out") == ["ok", "ok", "failed", "not predicted"]
    main_of(*call[:-1])  # without predictions there is no status
    assert statuses_on_page(images / "out") == [""] * 4


def statuses_on_page(folder):
    return re.findall(r'data-status="([^"]*)"', (folder / "index.html").read_text())


@pytest.mark.parametrize("name, height, width, uid, reason", [
    ("x.png", 900, 800, "", ""), ("x.png", 90, 80, "1.4", ""), ("x.png", 800, 900, "", "80 x 90 pixels"),
    ("square.png", 800, 900, "", ""), ("x.dcm", 90, 80, "1.4", ""), ("x.dcm", 90, 80, "", ""),
    ("x.dcm", 90, 80, "1.5", "SOPInstanceUID is 1.4"), ("x.dcm", 900, 800, "1.4", "80 x 90 pixels"),
    ("x.dcm", None, None, "1.5", "SOPInstanceUID is 1.4")])
def test_boxes_of_another_image_are_not_drawn(
    tmp_path, main_of, monkeypatch, caplog, name, height, width, uid, reason
):
    """The status table has the size and the UID of what was predicted; a PNG may be a smaller copy."""
    texts = written_texts(monkeypatch)
    path = tmp_path / "images" / name
    pixels = np.full((90, 90 if "square" in name else 80), 40, np.uint8)
    pixels[0] = 200
    if name.endswith("png"):
        write_png(path, pixels)
    else:
        path.parent.mkdir()
        write_sample(path, pixels.astype(np.uint16), SOPInstanceUID="1.4")
    write_submission(tmp_path / "s.csv", {path.stem: P((5, 0.9, 20, 20, 70, 80))})
    status = Status(path.stem, name, OK, "", {"SOPInstanceUID": uid}, height, width)
    write_status(tmp_path / "s.status.csv", [status])
    main_of("visualize.py", "--images", path, "--predictions", tmp_path / "s.csv", "--out", tmp_path / "out")
    assert any(text.startswith("Lung Opacity") or "0.90" in text for text in texts) == (not reason)
    assert reason in caplog.text and ("which are of another image" in caplog.text) == bool(reason)
    assert statuses_on_page(tmp_path / "out") == ["not predicted" if reason else "ok"]


def test_a_flagged_image_has_the_reason_on_its_picture(images, main_of, monkeypatch):
    texts = written_texts(monkeypatch)
    write_status(images / "s.status.csv", [Status("a", "a.png", FLAGGED, "seen synthetic images alone")])
    main_of("visualize.py", "--images", images / "images/a.png", "--predictions", images / "s.csv", "--out",
            images / "out", "--side", 640)
    assert texts[-1] == "flagged: seen synthetic images alone"
    page = (images / "out/index.html").read_text()
    assert page.count("seen synthetic images alone") == 1  # the page has it once, in the status


def test_files_that_are_no_image_are_on_the_page(images, main_of):
    (images / "images/e.bmp").write_bytes(b"BM")
    main_of("visualize.py", "--images", images / "images", "--out", images / "out", "--count", 1)
    page = (images / "out/index.html").read_text()
    assert statuses_on_page(images / "out") == ["", "failed"] and "BMP is not read" in page
    main_of("visualize.py", "--images", images / "images", "--annotations", images / "truth.json", "--out",
            images / "out")
    assert "BMP" not in (images / "out/index.html").read_text()  # no image of these annotations


def test_an_image_that_cannot_be_read_is_a_cell_of_the_grid(images, main_of, monkeypatch):
    texts = written_texts(monkeypatch)
    (images / "images/b.png").write_bytes(b"cut")
    (images / "images/e.bmp").write_bytes(b"BM")
    main_of("visualize.py", "--images", images / "images", "--out", images / "out", "--grid", 5)
    grid = cv2.imread(str(images / "out/grid.png"))
    assert grid.shape[1] > 4 * 430 + 480  # four cells as wide as the images', and those of b and e
    assert sum(text.startswith("failed: ") for text in texts) == 2
    assert "failed: BMP is not read" in " ".join(texts)


def test_only_pictures_that_an_earlier_index_names_are_removed(images, main_of):
    call = ["visualize.py", "--images", images / "images", "--out", images / "out", "--ids"]
    main_of(*call, "a", "b")
    (images / "out/mine.png").write_bytes(b"")
    main_of(*call, "b", "c")
    assert pictures_in(images / "out") == ["b.png", "c.png", "mine.png"]
    (images / "out/index.html").write_text('<figure data-id="b"><a href="b.png"></a></figure>')  # of others
    remove_overlays(images / "out")
    assert pictures_in(images / "out") == ["b.png", "c.png", "mine.png"]


def test_folders_with_subfolders(tmp_path, main_of, caplog):
    """Two studies name their images alike; --recursive gives them the ids that a recursive prediction has."""
    for study in ("p1", "p2"):
        write_png(tmp_path / f"images/{study}/IM1.png", np.full((90, 80), 40, np.uint8))
    write_png(tmp_path / "images/a.png", np.full((90, 80), 40, np.uint8))
    boxes = P((5, 0.9, 20, 20, 70, 80))
    write_submission(tmp_path / "s.csv", dict.fromkeys(("a", "p1_IM1", "p2_IM1"), boxes))
    call = ["visualize.py", "--images", tmp_path / "images", "--predictions", tmp_path / "s.csv", "--out",
            tmp_path / "out"]
    main_of(*call)
    assert pictures_in(tmp_path / "out") == ["a.png"]
    assert "2 of 3 predicted images are not in" in caplog.text and "--recursive" in caplog.text
    main_of(*call, "--recursive")
    assert pictures_in(tmp_path / "out") == ["a.png", "p1_IM1.png", "p2_IM1.png"]
    assert statuses_on_page(tmp_path / "out") == ["ok"] * 3


def test_a_grid_has_a_cell_per_image(images, main_of):
    """The image with most boxes first, without any last; the second row has an empty cell."""
    main_of("visualize.py", "--images", images / "images", "--annotations", images / "truth.json", "--out",
            images / "out", "--grid", 2, "--side", 180)
    assert [path.name for path in (images / "out").iterdir()] == ["grid.png"]
    grid = cv2.imread(str(images / "out/grid.png"))
    width = 160
    height = (grid.shape[0] - GAP) // 2
    assert grid.shape == (2 * height + GAP, 2 * width + GAP, 3) and 22 + 180 < height < 22 + 180 + 30
    first = grid[22 : 22 + 180, :width]
    assert np.abs(first[65 : 135, 40].astype(int) - color_of(3)[::-1]).max() <= 2  # the left side of c's box
    second, third = grid[22 : 22 + 180, width + GAP :], grid[height + GAP + 22 : height + GAP + 202, :width]
    assert shows(second, color_of(3)) and not shows(third, color_of(3))
    assert not grid[height:, width:].any()


def test_ids_are_drawn_in_their_order(images, main_of):
    paths = {name: images / f"images/{name}.png" for name in "abcd"}
    (images / "ids.csv").write_text("image_id\nd\nb.png\n")
    subjects = choose(paths, [], 1, ["d", "b.png"])
    assert [(subject.image_id, subject.truth) for subject in subjects] == [("d", None), ("b", None)]
    drawn = {tuple(subject.image_id for subject in choose(paths, None, 2, seed=seed)) for seed in range(9)}
    assert len(drawn) > 3 and choose(paths, None, 2, seed=1) == choose(paths, None, 2, seed=1)
    call = ["visualize.py", "--images", images / "images", "--out", images / "out", "--ids"]
    main_of(*call, images / "ids.csv")
    assert pictures_in(images / "out") == ["b.png", "d.png"]
    with pytest.raises(InputError, match=r"--ids e: is not among the 4 images \(2 of 3 are not\)"):
        main_of(*call, "e", "a", "f")


@pytest.mark.parametrize("options, message", [
    (["--augment", "c.yaml"], "--augment: expected --annotations"), (["--grid", "0"], "--grid 0: expected 1"),
    (["--score", "30"], "--score 30.0: expected 0 to 1"), (["--count", "0"], "--count 0: expected 1"),
    (["--side", "3"], "--side 3: expected 64"),
])
def test_faulty_options(images, main_of, options, message):
    with pytest.raises(InputError, match=message):
        main_of("visualize.py", "--images", images / "images", "--out", images / "out", *options)


@pytest.mark.parametrize("label_set, name", [(VINBIGDATA, "Atelectasis"), (VINDR_CXR, "Atelectasis"),
                                             (LabelSet("own", ("spot", "line")), "line")])
def test_boxes_have_the_names_of_their_label_set(images, label_set, name, monkeypatch):
    texts = written_texts(monkeypatch)
    boxes = Predictions(np.array([[10, 10, 60, 60]]), np.array([0.5]), np.array([1]), label_set)
    far = Predictions(np.array([[70, 70, 80, 80]]), np.array([0.5]), np.array([1]), label_set)
    subject = Subject("a", images / "images/a.png", boxes)
    list(pictures([subject], {"a": boxes}, {}, 0.3))
    assert texts == [f"{name} 0.50", "true positive", "true box, detected"]
    texts.clear()
    list(pictures([subject], {"a": far}, {}, 0.3))
    assert texts == [f"FP {name} 0.50", f"FN {name}", "false positive (FP)", "true box, missed (FN)"]


def test_augmented_boxes_keep_their_label_set(images, main_of):
    """The last of VinDr-CXR's 22 findings has a class id that VinBigData's set lacks."""
    records = [Record(name, f"{name}.png", 90, 80, Predictions(
        np.array([[10, 10, 60, 60]]), np.ones(1), np.array([21]), VINDR_CXR)) for name in "ab"]
    write_json(images / "other.json", to_coco(records))
    main_of("visualize.py", "--images", images / "images", "--annotations", images / "other.json", "--out",
            images / "out", "--augment", DEMO)
    assert cv2.imread(str(images / "out/augmentations.png")).std() > 1


def test_titles_fit():
    long = title_strip("1.2.840.113619.2.5.1762583153.215519.978957063.78.1", 200, 22)
    assert long.shape == (22, 200, 3) and not long[:, 197:].any() and long[:, 150:].any()
    assert grid_of([PICTURE], 5).shape == PICTURE.shape
