"""Overviews of tables of image-level labels, against counts by hand and the published ones."""

import cv2
import numpy as np
import pandas as pd
import pytest

from vindr_det.data.image_labels import has_image_labels, read_image_labels, years_of
from vindr_det.data.intensities import measure_intensities, plot_intensities
from vindr_det.data.label_statistics import describe_labels, named_label_tables
from vindr_det.data.label_statistics_plots import plot_label_overview
from vindr_det.exceptions import InputError
from vindr_det.files import write_png
from vindr_det.tables import read_names

pytestmark = pytest.mark.figures

NIH = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position
00000001_000.png,Mass|Nodule,0,1,9,F,PA
00000001_001.png,Mass,1,1,11,F,AP
00000002_000.png,No Finding,0,2,411,M,PA
00000003_000.png,No Finding,0,3,081Y,M,PA
00000003_001.png,Edema|Mass|Nodule,1,3,82,M,PA
00000003_002.png,Mass|Nodule,2,3,414,M,PA
"""
COURSE = """Image,Mass,Edema,PatientId,Quality
00000001_000.png,1,0,1,.5
00000001_001.png,0,0,1,.7
00000004_000.png,1,1,4,.1
"""


def read(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return read_image_labels(tmp_path / "t.csv")


def test_counts_by_hand(tmp_path):
    overview = describe_labels(read(tmp_path, NIH))
    labels = overview.labels
    assert labels.loc["Mass", ["images", "alone", "patients", "F", "M", "AP", "PA"]].tolist() == [
        4, 1, 2, 2, 2, 1, 3]
    assert labels.loc["Mass", "percent"] == pytest.approx(400 / 6)
    assert labels.loc["Hernia", "images"] == 0 and labels.loc["No Finding", "alone"] == 2
    assert overview.together.loc["Mass", ["Mass", "Nodule", "Edema"]].tolist() == [4, 3, 1]
    assert overview.co_occurrence.loc["Nodule", "Edema"] == pytest.approx(1 / 3)
    assert np.isnan(overview.co_occurrence.loc["Hernia", "Mass"])
    assert overview.combinations["images"].to_dict() == {
        "Mass | Nodule": 2, "No Finding": 2, "Mass": 1, "Mass | Nodule | Edema": 1}
    assert overview.labels_per_image["images"].to_dict() == {0: 2, 1: 1, 2: 2, 3: 1}
    ages = overview.ages[overview.ages["images"] + overview.ages["patients"] > 0]
    # Patient 2 has only an impossible age; 3 has one beside possible ones.
    assert ages[["images", "patients"]].T.to_dict("list") == {
        "under 10": [1, 0], "10 to 19": [1, 1], "81 to 122": [2, 1], "over 122 (impossible)": [2, 1]}
    assert overview.sexes["patients"].to_dict() == {"F": 1, "M": 2}
    assert overview.views["images"].to_dict() == {"AP": 1, "PA": 5}
    assert overview.per_patient[["max", "mean", "patients", "more"]].T.to_dict("list") == {
        "images": [3, 2, 3, 2], "findings": [3, 5 / 3, 3, 2], "follow-ups": [2, 1, 3, 2]}
    assert overview.images_per_patient["patients"].to_dict()["3"] == 1
    assert overview.columns.loc["Patient Age", ["empty", "distinct", "taken_for"]].tolist() == [0, 6, "age"]


def test_tables_of_zeros_and_ones(tmp_path, caplog):
    labels = read(tmp_path, COURSE)
    assert labels.labels == ("Mass", "Edema") and "than 0 and 1: Quality" in caplog.text
    overview = describe_labels(labels)
    assert overview.labels["patients"].to_dict() == {"Mass": 2, "Edema": 1}
    assert overview.combinations["images"].to_dict() == {"Mass": 1, "Mass | Edema": 1, "none": 1}
    assert overview.ages.empty and overview.sexes.empty
    names = [name for name, _, _ in named_label_tables(overview)]
    assert "per_patient" in names and "ages" not in names
    assert len(plot_label_overview(overview, tmp_path)) == 4


@pytest.mark.parametrize("text, message", [
    ("Image,Mass\n", "has a header and no row"), ("Image,Mass\na,2\n", "has no column of labels"),
    ("name,Mass\na,1\n", "has no column of images"), ("Image,Mass\na,1\na,0\n", "row 3: image a is repeated"),
    (NIH.replace("Edema", "Fracture"), "row 6: labels 'Fracture|Mass|Nodule'"),
])
def test_faulty_tables_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message.replace("|", "[|]")):
        read(tmp_path, text)


def test_ages_in_any_unit():
    ages = years_of(pd.Series(["058Y", "7", 12.0, "006M", "003D", "", "x", None]))
    assert ages[:4].tolist() == [58, 7, 12, 0.5] and ages[4] == pytest.approx(3 / 365.25)
    assert ages[5:].isna().all()


def test_a_part_of_the_images(tmp_path):
    labels = read(tmp_path, COURSE)
    (tmp_path / "list.txt").write_text("00000001_000.png 1\n\n00000004_000.png 0\n")
    (tmp_path / "list.csv").write_text("Image Index,x\n00000001_001.png,2\n")
    names = read_names([str(tmp_path / "list.txt"), str(tmp_path / "list.csv"), "00000001_000.png"])
    assert names == ["00000001_000.png", "00000004_000.png", "00000001_001.png"]
    assert labels.only(names[:2], "--ids").frame["Mass"].tolist() == [1, 1]
    with pytest.raises(InputError, match=r"--ids: image b is not in the table \(1 are not\)"):
        labels.only(["00000001_000", "b"], "--ids")
    (tmp_path / "list.txt").write_text("image_id\n")
    with pytest.raises(InputError, match="list.txt: holds no name"):
        read_names([str(tmp_path / "list.txt")])


def test_intensities_by_hand(tmp_path):
    """Half of the pixels 100 and half 200, or out of range."""
    labels = read(tmp_path, "image,a,b,c\nx,1,0,0\ny,1,1,0\nz,0,0,1\n")
    for name, (first, second) in {"x": (100, 200), "y": (100, 255)}.items():
        picture = np.full((64, 64), first, np.uint8)
        picture[:32] = second
        write_png(tmp_path / f"images/{name}.png", picture)
    result = measure_intensities(labels, tmp_path / "images")
    assert result.table.index.tolist() == ["a", "b"] and result.table["images"].tolist() == [2, 1]
    mean = (2 * 100 + 200) / 3
    sd = ((2 * (100 - mean) ** 2 + (200 - mean) ** 2) / 3) ** 0.5
    assert result.table.loc["a"].tolist()[1:] == pytest.approx([mean, sd, 0.75])
    assert result.table.loc["b"].tolist()[1:] == pytest.approx([100, 0, 0.5])
    assert measure_intensities(labels, tmp_path / "images", sample=1).table["images"].tolist() == [1, 1]
    assert cv2.imread(str(plot_intensities(result, tmp_path))).std() > 1
    with pytest.raises(InputError, match="--sample 0"):
        measure_intensities(labels, tmp_path / "images", 0)


def in_order(labels):
    return "|".join(sorted(labels.split("|")))


@pytest.mark.slow
def test_the_published_table(data, tmp_path, main_of):
    """Counts by another program, of the table of 2020."""
    path = data / "nih/Data_Entry_2017_v2020.csv.gz"
    assert has_image_labels(path) and not has_image_labels(data / "vinbig/train.csv.gz")
    main_of("describe.py", "--annotations", path, "--out", tmp_path, "--images", data / "nih/images_512",
            "--sample", 2)
    sexes = pd.read_csv(tmp_path / "sexes.csv", index_col="sex")
    assert sexes["patients"].to_dict() == {"F": 14175, "M": 16630}
    assert pd.read_csv(tmp_path / "views.csv")["images"].tolist() == [44810, 67310]
    ages = pd.read_csv(tmp_path / "ages.csv", index_col="age")["patients"]
    assert ages["under 10"] == 539 and ages["81 to 122"] == 271 and ages["over 122 (impossible)"] == 0
    labels = pd.read_csv(tmp_path / "labels.csv", index_col="label")
    assert labels.loc["Hernia", "images"] == 227 and labels.loc["No Finding", "images"] == 60361
    raw = pd.read_csv(path)["Finding Labels"]
    together = pd.read_csv(tmp_path / "together.csv", index_col="label")
    both = raw.str.contains("Edema") & raw.str.contains("Effusion")
    assert together.loc["Edema", "Effusion"] == both.sum()
    combinations = pd.read_csv(tmp_path / "combinations.csv")
    assert combinations["images"].tolist() == raw.map(in_order).value_counts().head(15).tolist()
    assert pd.read_csv(tmp_path / "intensities.csv")["images"].tolist() == [2] * 15
    assert len(list(tmp_path.glob("*.png"))) == 6 and len(list(tmp_path.glob("*.csv"))) == 12


@pytest.mark.parametrize("more, message", [
    ([], "t.csv: is a table of boxes, expected --meta"),
    (["--meta", "m.csv", "--ids", "a"], "--ids: is for tables of labels"),
])
def test_options_of_the_other_kind_of_table(tmp_path, main_of, more, message):
    (tmp_path / "t.csv").write_text("image_id,class_id,rad_id,x_min,y_min,x_max,y_max\na,14,R1,,,,\n")
    with pytest.raises(InputError, match=message):
        main_of("describe.py", "--annotations", tmp_path / "t.csv", "--out", tmp_path, *more)
