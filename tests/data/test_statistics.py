import cv2
import numpy as np
import pandas as pd
import pytest

from vindr_det.data.statistics import as_text, count_matches, describe, named_tables
from vindr_det.data.statistics_plots import plot_overview
from vindr_det.data.vinbigdata import read_annotations
from vindr_det.imaging.sizes import read_sizes
from vindr_det.structures.detections import Predictions

pytestmark = pytest.mark.figures

ROWS = """image_id,class_id,rad_id,x_min,y_min,x_max,y_max
a,3,R8,0,0,50,50
a,3,R9,0,0,50,48
a,0,R9,60,60,90,90
a,3,R10,50,50,100,100
b,3,R8,0,0,20,100
b,0,R8,50,0,60,10
b,3,R9,0,0,20,100
b,3,R10,0,0,20,100
c,14,R1,,,,
c,14,R2,,,,
c,14,R3,,,,
"""


def overview_of(tmp_path, rows=ROWS):
    (tmp_path / "t.csv").write_text(rows)
    (tmp_path / "m.csv").write_text("image_id,dim0,dim1\na,100,100\nb,200,100\nc,300,150\n")
    sizes = read_sizes(tmp_path / "m.csv")
    return describe(read_annotations(tmp_path / "t.csv", sizes), sizes)


def test_counts_by_hand(tmp_path):
    overview = overview_of(tmp_path)
    classes = overview.classes
    assert classes.loc["Cardiomegaly"].tolist() == [2, 6, 3, 1, 1, 1]
    assert classes.loc["Aortic enlargement"].tolist() == [2, 2, 2, 2, 0, 0]
    assert classes.loc["No finding", "images"] == 1
    assert overview.boxes_per_image["images"].to_dict() == {0: 1, 2: 1, 3: 1}
    assert overview.readers.loc["R8", ["images", "abnormal", "boxes"]].tolist() == [2, 2, 3]
    assert list(overview.readers.index) == ["R1", "R2", "R3", "R8", "R9", "R10"]
    assert overview.common_images.loc["R8", "R10"] == 2
    # R8 drew 3 boxes and R9 3, of which 2 agree; R10 drew 2, of which 1 agrees with R8's.
    assert overview.agreement.loc["R8", "R9"] == pytest.approx(2 * 2 / 6)
    assert overview.agreement.loc["R10", "R8"] == pytest.approx(2 * 1 / 5)
    assert overview.co_occurrence.loc["Aortic enlargement", "Cardiomegaly"] == 1
    assert np.isnan(overview.co_occurrence.loc["ILD", "Cardiomegaly"])
    assert overview.sizes.loc["image height", ["min", "median", "max"]].tolist() == [100, 200, 300]


def test_a_box_is_matched_once():
    boxes = Predictions(np.array([[0, 0, 10, 10], [0, 0, 10, 9]]), np.ones(2), np.array([1, 1]))
    assert count_matches(boxes, boxes[:1]) == 1 and count_matches(boxes, boxes) == 2
    assert count_matches(boxes, Predictions()) == 0


@pytest.mark.parametrize("rows", [
    ROWS, ROWS[: ROWS.index("a,3")] + ROWS[ROWS.index("c,14"):],
    "image_id,class_id,x_min,y_min,x_max,y_max\na,3,0,0,9,9\n",
], ids=["readers", "all normal", "no readers"])
def test_every_plot_and_table_can_be_made(tmp_path, rows):
    overview = overview_of(tmp_path, rows)
    for path in plot_overview(overview, tmp_path):
        assert cv2.imread(str(path)).std() > 1, path
    assert all(as_text(table) for _, _, table in named_tables(overview))


def test_the_tool(tool, phantoms, tmp_path):
    result = tool("describe.py", "--annotations", phantoms / "raw/train.csv", "--meta",
                  phantoms / "raw/train_meta.csv", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("*.png"))) == 6 and len(list(tmp_path.glob("*.csv"))) == 11
    truth = pd.read_csv(phantoms / "raw/train.csv")
    drawn = pd.read_csv(tmp_path / "classes.csv", index_col="class")["readers_boxes"]
    assert drawn.sum() == (truth["class_id"] != 14).sum()


def test_the_real_table(data):
    sizes = read_sizes(data / "vinbig/train_meta.csv")
    overview = describe(read_annotations(data / "vinbig/train.csv.gz", sizes), sizes)
    assert overview.classes["readers_boxes"].sum() == 36096
    assert overview.classes["consensus_boxes"].sum() == 22719
    assert overview.classes.loc["No finding", "images"] == 10606
    assert overview.readers["images"].sum() == 45000 and len(overview.readers) == 17
    assert overview.common_images.loc["R8", "R9"] == 4146
