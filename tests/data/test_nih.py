import gzip
import time

import numpy as np
import pandas as pd
import pytest

from vindr_det.data.coco import load_coco
from vindr_det.data.convert import convert
from vindr_det.data.nih import PUBLISHED_COUNTS, read_boxes, read_labels, read_list, read_lists
from vindr_det.data.release import Conversion
from vindr_det.exceptions import InputError
from vindr_det.files import read_json
from vindr_det.structures.label_sets import NIH, NIH_LABELS

HEADER = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
          "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]")
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def convert_nih(labels, out, folds=5, lists=None, **tables):
    return convert("nih", out, Conversion(folds=folds, lists=lists), labels=labels, **tables)


def row(patient, number, labels, owner=None):
    return f"{patient:08d}_{number:03d}.png,{labels},{number},{owner or patient},57,M,PA,2682,2749,.1,.1"


def write_labels(path, rows, ending=""):
    path.write_text("\n".join([HEADER + ending, *(r + ending for r in rows)]) + "\n")
    return path


@pytest.mark.parametrize("ending", ["", ","])
def test_labels(tmp_path, ending):
    """Also with the empty last column of the table of 2017."""
    frame = read_labels(write_labels(tmp_path / "l.csv", [
        row(1, 0, "Cardiomegaly|Emphysema"), row(1, 1, "No Finding"), row(20, 3, "Pleural_Thickening"),
    ], ending))
    assert frame["image"].tolist() == ["00000001_000.png", "00000001_001.png", "00000020_003.png"]
    assert frame["patient"].tolist() == [1, 1, 20] and set(frame["view"]) == {"PA"}
    assert frame.loc[0, ["Cardiomegaly", "Emphysema", "Edema", "No Finding"]].tolist() == [1, 1, 0, 0]
    assert frame[[*NIH_LABELS, "No Finding"]].sum(axis=1).tolist() == [2, 1, 1]


@pytest.mark.parametrize("rows, message", [
    ([row(1, 0, "Cardiomegaly|Fracture")], "row 2: labels 'Cardiomegaly|Fracture'"),
    ([row(1, 0, "Mass"), row(1, 1, "Mass|No Finding")], "row 3: .*No Finding alone"),
    ([row(1, 0, "Mass"), row(1, 0, "Mass")], "row 3: image 00000001_000.png is repeated"),
    ([row(1, 0, "Mass", owner=2)], "row 2: image 00000001_000.png has Patient ID 2"),
    ([row(1, 0, "Mass").replace("00000001_", "x_")], "row 2: image x_000.png has Patient ID 1"),
    ([row(1, 0, "Mass"), row(1, 1, ""), row(1, 2, "Edema")], "row 3: Finding Labels is empty"),
    ([row(1, 0, "Mass"), row(1, 1, " ")], "row 3: Finding Labels is empty"),
    ([row(1, 0, "Mass"), row(1, 1, "NA")], "row 3: labels 'NA', expected some of"),
    ([row(1, 0, "Mass|")], "row 2: labels 'Mass|'"),
    ([row(1, 0, "Mass"), row(1, 1, "Mass").replace("00000001_001.png", "")], "row 3: Image Index is empty"),
    ([row(1, 0, "Mass").replace(",1,57", ",,57")], "row 2: Patient ID is empty"),
    ([], "has a header and no row below it"),
])
def test_bad_labels(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read_labels(write_labels(tmp_path / "l.csv", rows))


def write_boxes(path, rows):
    path.write_text("\n".join([BOX_HEADER, *rows]) + "\n")
    return path


def test_boxes(tmp_path):
    records = read_boxes(write_boxes(tmp_path / "b.csv", [
        "00000001_000.png,Infiltrate,10.5,20,100,50,,,", "00000001_000.png,Mass,1,2,3,4,,,",
        "00000002_000.png,Nodule,1000,1000,24.4,24,,,"]))
    assert [r.image_id for r in records] == ["00000001_000", "00000002_000"]
    assert [NIH_LABELS[i] for i in records[0].truth.labels] == ["Infiltration", "Mass"]
    assert records[0].truth.boxes[0].tolist() == [10.5, 20, 110.5, 70]
    assert records[1].truth.boxes[0].tolist() == [1000, 1000, 1024, 1024]


@pytest.mark.parametrize("line, message", [
    ("00000001_000.png,Fracture,1,2,3,4,,,", "row 2: label 'Fracture'"),
    ("00000001_000.png,Mass,1,2,0,4,,,", "row 2: box"),
    ("00000001_000.png,Mass,1,2,x,4,,,", "row 2: box"),
    ("00000001_000.png,Mass,1000,2,100,4,,,", "row 2: box"),
    ("00000001_000.png,,1,2,3,4,,,", "row 2: Finding Label is empty"),
    (",Mass,1,2,3,4,,,", "row 2: Image Index is empty"),
    ("00000001_000.png,Mass,1,2,,4,,,", "row 2: box"),
    ("00000001_000.png,Mass,1,2,inf,4,,,", "row 2: box"),
])
def test_bad_boxes(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        read_boxes(write_boxes(tmp_path / "b.csv", [line]))


def test_a_box_that_is_there_twice_counts_once(tmp_path, caplog):
    rows = ["00000001_000.png,Mass,1,2,3,4,,,", "00000001_000.png,Nodule,1,2,3,4,,,"]
    records = read_boxes(write_boxes(tmp_path / "b.csv", [*rows, rows[0]]))
    assert len(records[0].truth) == 2 and "1 repeated rows" in caplog.text


@pytest.mark.parametrize("text, message", [
    ("00000001_000.png 1\n00000001_000.png 0\n", "row 2: image 00000001_000.png is repeated"),
    ("00000001_000.png 2\n", "row 1: numbers 2, expected 0 or 1"),
    ("00000001_000.png 0 1\n", "2 numbers per line, expected 1: abnormal"),
    ("image.png 1\n", "row 1: image image.png, expected a name"),
    ("", "not a list"),
    ("00000001_000.png 1\n00000002_000.png\n", "row 2: numbers (nan)?, expected 0 or 1"),
    ("00000001_000.png 1\n\n00000002_000.png 1\n", "row 2: numbers"),
    ("00000001_000.png 1\nNA 0\n", "row 2: image NA, expected a name"),
])
def test_bad_lists(tmp_path, text, message):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_list(tmp_path / "l.txt", ["abnormal"])


@pytest.fixture
def small(tmp_path):
    """40 patients with 1 to 5 images, chexnet lists by patient."""
    rng = np.random.default_rng(0)
    names, rows = [], []
    for patient in range(1, 41):
        for number in range(int(rng.integers(1, 6))):
            ill = rng.random(14) < 0.1
            text = "|".join(np.array(NIH_LABELS)[ill]) or "No Finding"
            rows.append(row(patient, number, text))
            names.append((patient, f"{patient:08d}_{number:03d}.png {' '.join(map(str, ill.astype(int)))}"))
    write_labels(tmp_path / "labels.csv", rows)
    lists = tmp_path / "lists"
    lists.mkdir()
    for part, chosen in (("train", range(1, 31)), ("val", range(31, 36)), ("test", range(36, 41))):
        (lists / f"{part}_list.txt").write_text("\n".join(t for p, t in names if p in chosen) + "\n")
    return tmp_path


def test_no_patient_is_in_two_folds(small):
    summary = convert_nih(small / "labels.csv", small / "out", lists="chexnet", lists_dir=small / "lists",
                       folds=4)
    assert "of 40 patients, 4 folds by patient; another version" in summary
    for name in ("labels", "train"):
        frame = pd.read_csv(small / f"out/{name}.csv")
        assert set(frame["fold"]) == set(range(4))
        assert (frame.groupby("patient")["fold"].nunique() == 1).all()
    assert set(pd.read_csv(small / "out/test.csv")["fold"]) == {-1}


def test_a_planted_leak_is_named(small):
    test = small / "lists/test_list.txt"
    test.write_text(test.read_text() + "00000007_004.png" + " 0" * 14 + "\n")
    with pytest.raises(InputError, match="leak: patient 7 is in train and in test"):
        convert_nih(small / "labels.csv", small / "out", lists="chexnet", lists_dir=small / "lists")
    assert not (small / "out").exists()


@pytest.mark.parametrize("change, message", [
    (lambda p: (p / "lists/val_list.txt").unlink(), "0 files match .*val part of the chexnet lists"),
    (lambda p: (p / "lists/val_2.txt").write_text("x"), "2 files match"),
    (lambda p: (p / "lists/val_list.txt").write_text("00000099_000.png" + " 0" * 14), "chexnet val: 1 "
     "images are not in the label table, the first is 00000099_000.png"),
])
def test_bad_list_folders(small, change, message):
    change(small)
    with pytest.raises(InputError, match=message):
        convert_nih(small / "labels.csv", small / "out", lists="chexnet", lists_dir=small / "lists")


def test_lists_need_their_folder(small):
    with pytest.raises(InputError, match="--lists and --lists-dir go together"):
        convert_nih(small / "labels.csv", small / "out", lists="cadlab")


def test_the_tool(tool, small):
    write_boxes(small / "b.csv", ["00000001_000.png,Infiltrate,10.5,20,100,50,,,"])
    result = tool("convert.py", "nih", "--labels", small / "labels.csv", "--boxes", small / "b.csv",
                  "--out", small / "out", "--folds", "3")
    assert result.returncode == 0, result.stderr
    coco = read_json(small / "out/instances_bbox.json")
    assert [c["name"] for c in coco["categories"]] == list(NIH_LABELS)
    assert coco["annotations"][0]["category_id"] == NIH_LABELS.index("Infiltration")
    records, _ = load_coco(small / "out/instances_bbox.json")
    assert records[0].label_set is NIH  # other labels than VinDr's: never mixed up


@pytest.fixture(scope="module")
def real(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("nih")
    began = time.process_time()
    summary = convert_nih(data / "nih/Data_Entry_2017_v2020.csv.gz", out,
                       annotations=data / "nih/BBox_List_2017.csv")
    return out, summary, time.process_time() - began


def test_the_real_tables(real):
    out, summary, seconds = real
    assert seconds < 9, seconds  # of the processor: 3
    assert "112120 images of 30805 patients, 5 folds by patient; all 15 label counts are those" in summary
    assert "984 boxes on 880 images, 0 of a label that their image does not have" in summary
    frame = pd.read_csv(out / "labels.csv")
    assert frame[list(PUBLISHED_COUNTS)].sum().to_dict() == dict(PUBLISHED_COUNTS)
    assert (frame.groupby("patient")["fold"].nunique() == 1).all()
    counts = frame.groupby("fold")[list(PUBLISHED_COUNTS)].sum()
    assert (np.abs(counts / counts.mean() - 1) < 0.1).all(axis=None)
    annotations = read_json(out / "instances_bbox.json")["annotations"]
    assert len(annotations) == 984
    assert sum(a["category_id"] == NIH_LABELS.index("Infiltration") for a in annotations) == 123


def test_the_real_binary_lists(data):
    parts = read_lists(data / "nih", "cadlab")
    assert {name: (len(part), int(part["abnormal"].sum())) for name, part in parts.items()} == {
        "train": (8574, 4313), "val": (1706, 857), "test": (1344, 653), "test_attending": (1344, 667)}
    both = parts["test"].merge(parts["test_attending"], on="image")
    assert len(both) == 1344 and (both["abnormal_x"] != both["abnormal_y"]).sum() == 22


def test_the_real_14_label_lists(data):
    parts = read_lists(data / "nih", "chexnet")
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 78468, "val": 11219, "test": 22433}


def test_the_real_images_belong_to_their_rows(data):
    index = pd.read_csv(data / "nih/images_index.csv")
    with gzip.open(data / "nih/Data_Entry_2017_v2020.csv.gz", "rt") as file:
        assert file.readline().strip() == HEADER
    frame = read_labels(data / "nih/Data_Entry_2017_v2020.csv.gz").merge(index, on="image")
    assert len(frame) == 701 and (frame["patient_x"] == frame["patient_y"]).all()
    assert frame["patient_x"].nunique() == 478


@pytest.mark.parametrize("line", [
    "00000001_000.png,Mass,1024,2,1,4,,,", "00000001_000.png,Mass,-1,2,.5,4,,,",
    f"00000001_000.png,Mass,1,2,{'9' * 400},4,,,"])
def test_boxes_of_which_nothing_is_inside(tmp_path, line):
    with pytest.raises(InputError, match="row 2: box .* is none of an image of 1024 x 1024"):
        read_boxes(write_boxes(tmp_path / "b.csv", [line]))


def test_another_case_of_a_label(tmp_path):
    frame = read_labels(write_labels(tmp_path / "l.csv", [
        row(1, 0, "mass|NODULE"), row(1, 1, "No finding"), row(2, 0, "pleural thickening|infiltrate")]))
    assert frame.loc[0, ["Mass", "Nodule"]].tolist() == [1, 1] and frame.loc[1, "No Finding"] == 1
    assert frame.loc[2, ["Pleural_Thickening", "Infiltration"]].tolist() == [1, 1]
    boxes = read_boxes(write_boxes(tmp_path / "b.csv", ["00000001_000.png,mass,1,2,3,4,,,"]))
    assert boxes[0].truth.labels.tolist() == [NIH_LABELS.index("Mass")]


def test_empty_lines_below_a_list(tmp_path):
    (tmp_path / "l.txt").write_text("00000001_000.png 1\n00000002_000.png 0\n\n \n\n")
    assert len(read_list(tmp_path / "l.txt", ["abnormal"])) == 2


@pytest.fixture
def cadlab(tmp_path):
    def write(attending):
        parts = {"train": "00000001_000.png 0\n00000001_001.png 1\n", "val": "00000002_000.png 0\n",
                 "test_consensus": "00000003_000.png 0\n", "test_attending": attending}
        for name, text in parts.items():
            (tmp_path / f"cadlab_{name}.txt").write_text(text)
        return tmp_path
    return write


@pytest.mark.parametrize("attending, message", [
    ("00000001_000.png 1\n", "leak: patient 1 is in train and in test_attending"),
    ("00000004_000.png 1\n", "test_attending: image 00000004_000.png is not in the test part"),
    ("00000003_000.png 1\n00000003_001.png 1\n", "test_attending: image 00000003_001.png is not in the test"),
])
def test_the_attendings_list_is_of_the_test_images(cadlab, attending, message):
    with pytest.raises(InputError, match=message):
        read_lists(cadlab(attending), "cadlab")
    assert len(read_lists(cadlab("00000003_000.png 1\n"), "cadlab")) == 4


def test_other_lists_leave_nothing_of_the_first(small):
    names = []
    for lists in ({"lists": "chexnet", "lists_dir": small / "lists"}, {}):
        convert_nih(small / "labels.csv", small / "out", folds=3, **lists)
        names.append({path.name for path in (small / "out").iterdir()})
    assert names[0] == {"labels.csv", "train.csv", "val.csv", "test.csv", "train_val.csv", "conversion.txt"}
    assert names[1] == {"labels.csv", "conversion.txt"}
