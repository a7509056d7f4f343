"""NIH's boxes with incomplete truth, on an imitation of the published tables and on the real ones."""

import importlib
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, one_line

from vindr_det.data.coco import load_coco
from vindr_det.data.convert import convert
from vindr_det.data.release import Conversion
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import NIH_BOXES

LABELS = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
          "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]")
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
ROWS = [
    (1, 0, "Cardiomegaly|Effusion|Edema"), (1, 1, "No Finding"), (2, 0, "Infiltration"), (3, 0, "Hernia"),
    (4, 0, "Mass"), (5, 0, "Nodule|Pneumonia"), (6, 0, "No Finding")]
DRAWN = ["00000001_000.png,Cardiomegaly,10.5,20,100,50,,,",
         "00000002_000.png,infiltrate,1000,1000,24.6,24,,,",
         "00000002_000.png,Infiltrate,1,2,300,400,,,", "00000004_000.png,Mass,1,2,300,400,,,",
         "00000004_000.png,Mass,1,2,300,400,,,"]


def name(patient, number):
    return f"{patient:08d}_{number:03d}"


@pytest.fixture
def tables(tmp_path):
    rows = [f"{name(p, n)}.png,{labels},{n},{p},57,M,PA,2682,2749,.1,.1" for p, n, labels in ROWS]
    (tmp_path / "labels.csv").write_text("\n".join([LABELS, *rows]) + "\n")
    (tmp_path / "boxes.csv").write_text("\n".join([BOXES, *DRAWN]) + "\n")
    return {"annotations": tmp_path / "boxes.csv", "labels": tmp_path / "labels.csv"}


def records_of(path):
    return {record.image_id: record for record in load_coco(path)[0]}


def ids(*names):
    return tuple(NIH_BOXES.id_of(text) for text in names)


def test_a_finding_in_the_labels_without_a_box_is_unknown(tables, tmp_path):
    summary = convert("nih-boxes", tmp_path / "out", Conversion(folds=2), **tables)
    records = records_of(tmp_path / "out/instances_all.json")
    # 5_000 has labels of the eight and no box at all: it teaches nothing and is left out.
    assert list(records) == [name(1, 0), name(1, 1), name(2, 0), name(3, 0), name(4, 0), name(6, 0)]
    assert {key: record.unknown for key, record in records.items() if record.unknown} == {
        name(1, 0): ids("Effusion")}
    assert records[name(3, 0)].normal and records[name(1, 1)].normal  # Hernia is none of the eight
    drawn = records[name(2, 0)].truth
    assert drawn.labels.tolist() == list(ids("Infiltration", "Infiltration"))
    assert drawn.boxes.tolist() == [[1000, 1000, 1024, 1024], [1, 2, 301, 402]]
    assert len(records[name(4, 0)].truth) == 1  # the repeated row counts once
    assert "all: 6 images (3 normal), 4 boxes, 1 images with findings that have no box" in summary
    assert "differs from the published files, or is a part of them: 4 boxes (published: 984)" in summary
    labels = pd.read_csv(tmp_path / "out/labels.csv")
    assert (labels.groupby("patient")["fold"].nunique() == 1).all() and labels["Hernia"].sum() == 1


def test_a_list_chooses_the_images(tables, tmp_path):
    (tmp_path / "ids.txt").write_text(f"{name(5, 0)}.png\n{name(6, 0)}.png\n")
    convert("nih-boxes", tmp_path / "out", Conversion(folds=2), **tables, ids=tmp_path / "ids.txt")
    records = records_of(tmp_path / "out/instances_all.json")
    assert list(records) == [name(5, 0), name(6, 0)]
    assert records[name(5, 0)].unknown == ids("Nodule", "Pneumonia") and not records[name(5, 0)].normal


@pytest.fixture
def cut(tmp_path):
    def write(split="train,train,train,val", boxes="a_000.png,Mass,1,2,3,4,1024,1024", owner="3"):
        labels = [f"{image},{patient},{text},{part}" for (image, patient, text), part in zip(
            [("a_000.png", 1, "Mass|Nodule"), ("b_000.png", 1, "No Finding"), ("c_000.png", 2, "No Finding"),
             ("d_000.png", owner, "Edema")], split.split(","), strict=True)]
        (tmp_path / "images.csv").write_text("\n".join(["image,patient,labels,split", *labels]))
        header = "image,class,x_min,y_min,x_max,y_max,width,height"
        (tmp_path / "boxes.csv").write_text(f"{header}\n{boxes}\n")
        return {"annotations": tmp_path / "boxes.csv", "labels": tmp_path / "images.csv"}
    return write


def test_boxes_that_the_labels_contradict(tables, tmp_path, caplog):
    """Mass is drawn on an image without findings; on one with others it stays, with a message."""
    given = tables | {"annotations": tmp_path / "b.csv"}
    given["annotations"].write_text(f"{BOXES}\n{name(1, 0)}.png,Mass,1,2,30,40,,,\n")
    convert("nih-boxes", tmp_path / "out", Conversion(folds=2), **given)
    assert "row 2: the first of 1 boxes of a finding that the labels of their image do not" in caplog.text
    given["annotations"].write_text(f"{BOXES}\n{name(6, 0)}.png,Mass,1,2,30,40,,,\n")
    with pytest.raises(InputError, match="row 2: image 00000006_000 has a box of Mass, but .*'No Finding'"):
        convert("nih-boxes", tmp_path / "none", Conversion(folds=2), **given)


def test_two_files_of_an_image(cut, tmp_path):
    given = cut()
    text = given["labels"].read_text()
    given["labels"].write_text(text + "\na_000.jpg,1,Mass,train\n")
    with pytest.raises(InputError, match="images.csv, row 6: image a_000 is repeated, expected a file"):
        convert("nih-boxes", tmp_path / "out", Conversion(folds=2), **given)


def test_a_cut_with_parts(cut, tmp_path):
    convert("nih-boxes", tmp_path / "out", Conversion(folds=2), **cut())
    train, val = (records_of(tmp_path / f"out/instances_{part}.json") for part in ("train", "val"))
    assert list(train) == ["a_000", "b_000", "c_000"] and list(val) == ["d_000"]
    assert train["a_000"].unknown == ids("Nodule")
    folds = pd.read_csv(tmp_path / "out/folds.csv").set_index("image_id")["fold"]
    assert folds["d_000"] == -1 and folds["a_000"] == folds["b_000"] != folds["c_000"]
    assert not (tmp_path / "out/instances_all.json").exists()  # val must not be trained on by mistake


@pytest.mark.parametrize("change, message", [
    ({"owner": "1"}, "leak: patient 1 is in train and in val"),
    ({"split": "train,train,train,hold"}, "images.csv, row 5: split 'hold', expected one of train, val"),
    ({"boxes": "a_000.png,Fracture,1,2,3,4,1024,1024"}, "boxes.csv, row 2: class 'Fracture' is not one of "
     "the 8 findings of NIH boxes, expected .*; ChestX-Det has all classes of this file"),
    ({"boxes": "a_000.png,Mass,1,2,3,1100,1024,1024"}, "row 2: box .* leaves image a_000 of width 1024"),
    ({"boxes": "a_000.png,Mass,1,2,3,4,640,640"}, "row 2: box in a frame of 640 x 640, expected 1024 x 1024"),
    ({"boxes": "a_000.png,Mass,1,2,,4,1024,1024"}, "row 2: box .* of image a_000, expected four finite"),
    ({"boxes": "a_000.png,Mass,3,2,3,4,1024,1024"}, "row 2: box .* of image a_000 has no area"),
    ({"boxes": "z_000.png,Mass,1,2,3,4,1024,1024"}, "row 2: image z_000 is not in .*images.csv"),
    ({"boxes": ",Mass,1,2,3,4,1024,1024"}, "row 2: image is empty"),
    ({"boxes": "a_000.png,,1,2,3,4,1024,1024"}, "boxes.csv, row 2: class is empty, expected one of the 8"),
    ({"boxes": "a_000.png, ,1,2,3,4,1024,1024"}, "boxes.csv, row 2: class is empty, expected one of the 8"),
])
def test_bad_input(cut, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        convert("nih-boxes", tmp_path / "out", Conversion(folds=2), **cut(**change))
    assert not (tmp_path / "out").exists()


def test_an_empty_label_is_not_another_images_label(cut, tmp_path):
    tables = cut()
    text = tables["labels"].read_text()
    tables["labels"].write_text(text.replace("b_000.png,1,No Finding", "b_000.png,1,"))
    with pytest.raises(InputError, match="row 3: image b_000.png has no labels"):
        convert("nih-boxes", tmp_path / "out", **tables)


def test_the_tables_of_other_releases_are_named(tables, tmp_path):
    swapped = {"annotations": tables["labels"], "labels": tables["annotations"]}
    with pytest.raises(InputError, match=r"Finding Label is missing.*looks like NIH's Data_Entry_2017 table "
                       r"\(--labels\)"):
        convert("nih-boxes", tmp_path / "out", **swapped)
    with pytest.raises(InputError, match=r"class_id, .* is missing; .* looks like NIH's BBox_List_2017.csv "
                       r"\(format nih\)"):
        convert("vinbigdata", tmp_path / "out", annotations=tables["annotations"], meta=tables["labels"])


def test_the_tool(tool, tables, tmp_path):
    result = tool("convert.py", "nih-boxes", "--annotations", tables["annotations"], "--labels",
                  tables["labels"], "--images", tmp_path / "none", "--out", tmp_path / "out")
    assert "no such folder of images" in one_line(result) and not (tmp_path / "out").exists()


def test_the_real_tables(data, tmp_path):
    summary = convert("nih-boxes", tmp_path, annotations=data / "nih/BBox_List_2017.csv",
                      labels=data / "nih/Data_Entry_2017_v2020.csv.gz")
    assert "984 boxes, 521 images with findings that have no box" in summary
    assert "all counts are those of the published files" in summary


def test_the_real_cut(data, tmp_path):
    source = data / "nih_boxes"
    convert("nih-boxes", tmp_path, annotations=source / "boxes.csv", labels=source / "images.csv",
            images=source / "images_640")
    table = pd.read_csv(source / "boxes.csv")
    for part, count in (("train", 1203), ("val", 208)):
        records = records_of(tmp_path / f"instances_{part}.json")
        assert len(records) == count and all(record.file_name.endswith(".jpg") for record in records.values())
        drawn = table[table["image"].str[:-4].isin(records)].sort_values(["image", "x_min"])
        boxes = np.concatenate([record.truth.boxes[record.truth.boxes[:, 0].argsort()]
                                for record in records.values() if len(record.truth)])
        np.testing.assert_allclose(boxes, drawn[["x_min", "y_min", "x_max", "y_max"]], atol=0.002)


@pytest.fixture
def benchmark_of_nih(monkeypatch):
    """benchmarks/nih_boxes.py as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("nih_boxes")


def test_the_benchmark_refuses_other_files(benchmark_of_nih, tmp_path):
    boxes, labels = tmp_path / "b.csv", tmp_path / "l.csv"
    args = Namespace(out=tmp_path / "out", images=tmp_path, annotations=boxes, labels=labels)
    boxes.write_text("1")
    labels.write_text("2")
    source = args.out / "data/source.json"
    for _ in range(2):
        benchmark_of_nih.require_same_source(args, source)
    labels.write_text("3")
    with pytest.raises(InputError, match="its data was made from other --labels, expected the same"):
        benchmark_of_nih.require_same_source(args, source)
    source.unlink()
    with pytest.raises(InputError, match="other --images and --annotations and --labels"):
        benchmark_of_nih.require_same_source(args, source)


def test_the_benchmark_compares_trainings_of_the_same_seed(benchmark_of_nih, tmp_path, monkeypatch, capsys):
    """From random weights AP40 is .1 and .2, from phantoms .15 and .4: +.05, +.2, their mean +.125."""
    value = {"random_1": 0.1, "random_2": 0.2, "phantoms_1": 0.15, "phantoms_2": 0.4, "phantoms": 0.0}

    def score(args, predictions, truth, *options):
        own, keys = value[predictions.parent.name], benchmark_of_nih.COLUMNS.values()
        if "--compare" not in options:
            return dict.fromkeys(keys, own)
        difference = own - value[options[-1].parent.name]
        return {key: {"difference": difference, "ci95": [difference, difference]} for key in keys}

    tools = []
    monkeypatch.setattr(benchmark_of_nih, "tool", lambda *arguments, **options: tools.append(arguments))
    for part, imitation in (("make_data", lambda args: None), ("score", score),
                            ("phantom_data", lambda *names, **sizes: "data")):
        monkeypatch.setattr(benchmark_of_nih, part, imitation)
    command = (f"--images i --annotations b --labels l --out {tmp_path} --seeds 1 2 "
               "--beginnings phantoms random --engine detectron2")
    benchmark_of_nih.main(command.split())
    shown = capsys.readouterr().out.split("Difference from random of the same seed")[1]
    cells = [line.split("|") for line in shown.splitlines() if line.startswith("| ")]
    rows = {row[1].strip(): row[2].split()[0] for row in cells if row[1].strip()}
    assert rows["phantoms 1"] == "+0.050" and rows["phantoms 2"] == "+0.200"
    assert rows["phantoms, mean of 2"] == "+0.125" and "random 2" not in rows
    folders = {Path(tool[tool.index("OUTPUT_DIR") + 1]) for tool in tools if tool[0] == "train_net.py"}
    assert folders == {tmp_path / "detectron2" / name for name in value}
