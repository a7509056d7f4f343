import numpy as np
import pandas as pd
import pytest

from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions, no_finding
from vindr_det.submission import format_predictions, parse_submission, read_submission, write_submission

HEADER = "image_id,PredictionString\n"
SIZES = pd.DataFrame({"height": [100, 100], "width": [50, 50]}, index=["a", "b"])


def issues(tmp_path, text, sample=("a", "b"), sizes=SIZES):
    path = tmp_path / "s.csv"
    path.write_text(text)
    return parse_submission(path, sample, sizes).issues


def test_what_is_written_reads_back_the_same(tmp_path):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 1000, (50, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 900, (50, 2))], axis=1)
    given = Predictions(boxes, rng.random(50), rng.integers(0, 14, 50)) + no_finding(0.25)
    write_submission(tmp_path / "s.csv", {"a": given, "b": Predictions()}, ["b", "a"])
    back = read_submission(tmp_path / "s.csv")
    assert list(back) == ["b", "a"]
    assert back["b"].labels.tolist() == [14]
    assert np.allclose(back["a"].boxes, given.by_score().boxes, atol=0.01)
    assert np.allclose(back["a"].scores, given.by_score().scores, atol=1e-5)


def test_no_detections_say_no_finding():
    assert format_predictions(Predictions()) == "14 1 0 0 1 1"


def test_a_prediction_for_no_image_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(InputError, match="predictions for x"):
        write_submission(tmp_path / "s.csv", {"x": Predictions()}, ["a"])
    assert not list(tmp_path.iterdir())


def test_an_image_without_a_prediction_is_no_normal_one(tmp_path):
    """Kaggle's row of an image that was not read has to be asked for."""
    with pytest.raises(InputError, match=r"image b has no prediction \(1 in all\)"):
        write_submission(tmp_path / "s.csv", {"a": Predictions()}, ["a", "b"])
    assert not list(tmp_path.iterdir())
    write_submission(tmp_path / "s.csv", {"a": Predictions()}, ["b", "a"], SIZES.loc[["a"]], unread=["b"])
    assert (tmp_path / "s.csv").read_text() == HEADER + "b,14 1 0 0 1 1\na,14 1 0 0 1 1\n"


def test_a_good_file_has_no_issues(tmp_path):
    assert issues(tmp_path, HEADER + "a,14 1 0 0 1 1\nb,3 0.5 1 2 30 40 14 0.2 0 0 1 1\n") == []


@pytest.mark.parametrize("text, row, message", [
    ("", 0, "empty"),
    ("ID,TARGET\na,14 1 0 0 1 1\nb,14 1 0 0 1 1\n", 1, "'ID,TARGET'.*expected"),
    (HEADER + "a,\nb,14 1 0 0 1 1\n", 2, "empty PredictionString"),
    (HEADER + "a,14 1 0 0 1\nb,14 1 0 0 1 1\n", 2, "5 values, expected groups of six"),
    (HEADER + "a,x 1 0 0 1 1\nb,14 1 0 0 1 1\n", 2, "not six numbers"),
    (HEADER + "a,15 1 0 0 1 1\nb,14 1 0 0 1 1\n", 2, "unknown class id"),
    (HEADER + "a,3 1.5 0 0 1 1\nb,14 1 0 0 1 1\n", 2, "score 1.5"),
    (HEADER + "a,3 nan 0 0 1 1\nb,14 1 0 0 1 1\n", 2, "not finite"),
    (HEADER + "a,3 1 9 0 1 1\nb,14 1 0 0 1 1\n", 2, "x_min < x_max"),
    (HEADER + "a,14 1 0 0 5 5\nb,14 1 0 0 1 1\n", 2, "class 14 has the box 0 0 1 1"),
    (HEADER + "a,3 1 0 0 80 90\nb,14 1 0 0 1 1\n", 2, "leaves image a of width 50"),
    (HEADER + "a,14 1 0 0 1 1\na,14 1 0 0 1 1\nb,14 1 0 0 1 1\n", 3, "second row"),
    (HEADER + "a,3 1.5 0 0 1 1\na,14 1 0 0 1 1\nb,14 1 0 0 1 1\n", 3, "second row"),
    (HEADER + "a,14 1 0 0 1 1\n", 0, "1 images have no row, the first is b"),
    (HEADER + "a,14 1 0 0 1 1\nb,14 1 0 0 1 1\nc,14 1 0 0 1 1\n", 4, "'c' is not in the sample"),
    (HEADER + "a,14 1 0 0 1 1,x\nb,14 1 0 0 1 1\n", 2, "3 columns"),
])
def test_each_error_is_reported_with_its_row(tmp_path, text, row, message):
    import re

    errors = [issue for issue in issues(tmp_path, text) if issue.error]
    assert any(issue.row == row and re.search(message, issue.message) for issue in errors), errors


@pytest.mark.parametrize("text, message", [
    (HEADER + "a,14 1 0 0 1 1\nb,14 1 0 0 1 1", "no newline at the end"),
    (HEADER + "a,3 1 0 0 5 5 3 .5 0 0 5 5\nb,14 1 0 0 1 1\n", "1 boxes are repeated"),
    (HEADER + "a,3 1 0 0 5 5 14 1 0 0 1 1\nb,14 1 0 0 1 1\n", "beside boxes"),
])
def test_remarks_are_no_errors(tmp_path, text, message):
    (remark,) = issues(tmp_path, text)
    assert not remark.error and message in remark.message


def test_unscaled_boxes_are_seen(tmp_path):
    ids = [f"i{n}" for n in range(30)]
    sizes = pd.DataFrame({"height": 3000, "width": 2500}, index=ids)
    rows = "".join(f"{i},3 0.5 100 100 {200 + n} 230\n" for n, i in enumerate(ids))
    assert any("unscaled" in f.message for f in issues(tmp_path, HEADER + rows, ids, sizes))


@pytest.mark.parametrize("name, good", [
    ("brekkanegg.csv", True), ("rxng8.csv", True), ("windeaves_sub200.csv", True),
    ("windeaves_sub250.csv", True), ("navitacion.csv", False),
])
def test_verdict_on_peers_files(data, name, good):
    from vindr_det.imaging.sizes import read_sizes

    ids = pd.read_csv(data / "vinbig/sample_submission.csv")["image_id"].tolist()
    sizes = read_sizes(data / "vinbig/test_meta.csv")
    parsed = parse_submission(data / "vinbig/submissions" / name, ids, sizes)
    errors = [issue.message for issue in parsed.issues if issue.error]
    assert bool(errors) != good
    if name == "navitacion.csv":
        assert any("header" in message for message in errors)
        assert any("unscaled" in message for message in errors)


def test_repaired_boxes_have_the_format_of_written_ones(tmp_path, monkeypatch):
    from vindr_det.submission import repair_submission, write

    sizes = pd.DataFrame({"height": [100], "width": [50]}, index=["a"])
    (tmp_path / "s.csv").write_text(HEADER + "a,3 0.5 1 2 60 40 14 1 0 0 9 9\n")
    for style, expected in [(".6g", "3 0.5 1 2 50 40 14 1 0 0 1 1"),
                            (".2f", "3 0.5 1.00 2.00 50.00 40.00 14 1 0.00 0.00 1.00 1.00")]:
        monkeypatch.setattr(write, "_NUMBER_FORMAT", style)
        assert repair_submission(tmp_path / "s.csv", sizes=sizes).text == f"{HEADER}a,{expected}\n"


def test_a_bad_file_is_never_written(tmp_path):
    """Boxes outside, with sizes and without; a class-14 box of any kind is written as the only one."""
    sizes = pd.DataFrame({"height": [100], "width": [50]}, index=["a"])
    beyond = Predictions([[1, 2, 60, 40]], [0.5], [3])
    with pytest.raises(InputError, match="s.csv: not written; row 2: box 1 2 60 40 leaves image a"):
        write_submission(tmp_path / "s.csv", {"a": beyond}, sizes=sizes)
    before = Predictions([[-9, 2, 30, 40]], [0.5], [3])
    with pytest.raises(InputError, match="box -9 2 30 40 leaves image a, expected 0 or more"):
        write_submission(tmp_path / "s.csv", {"a": before})
    assert not list(tmp_path.iterdir())
    write_submission(tmp_path / "s.csv", {"a": Predictions([[0, 0, 9, 9]], [0.5], [14])})
    assert (tmp_path / "s.csv").read_text() == "image_id,PredictionString\na,14 0.5 0 0 1 1\n"


def test_reading_is_tolerant_where_the_meaning_is_certain(tmp_path, caplog):
    path = tmp_path / "s.csv"
    path.write_text("ID,TARGET\na,3 0.5 1 2 3 4\nb,")
    predictions = read_submission(path)
    assert len(predictions["a"]) == 1 and predictions["b"].labels.tolist() == [14]
    assert "repaired in 3 places" in caplog.text
    path.write_text("ID,TARGET\na,3 0.5 1 2 3\n")
    with pytest.raises(InputError, match="row 2: 5 values, expected groups of six"):
        read_submission(path)
