"""What YOLO's folders do not say: labels that are elsewhere, and the tables beside the folders."""

import shutil

import cv2
import numpy as np
import pytest
import yaml

from vindr_det.data.coco import load_coco, to_coco
from vindr_det.data.convert import convert
from vindr_det.data.release import Conversion
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH_BOXES
from vindr_det.structures.records import Record


@pytest.fixture
def folders(tmp_path):
    """data.yaml with two parts: a, b and d in train, c in val; b without a text file."""
    root = tmp_path / "yolo"
    for part, names in (("train", "abd"), ("val", "c")):
        (root / f"images/{part}").mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(root / f"images/{part}/{name}.png"), np.zeros((40, 80), np.uint8))
        (root / f"labels/{part}").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (root / "labels/train/d.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (root / "labels/val/c.txt").write_text("")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [crack, spot]\n")
    return root


def converted(folders, tmp_path, part="train", **options):
    convert("yolo", tmp_path / "out", Conversion(folds=2), annotations=folders, **options)
    return {record.image_id: record for record in load_coco(tmp_path / f"out/instances_{part}.json")[0]}


def moved(source, target):
    def move(root):
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / source, root / target)
    return move


def beside_the_images(root):
    for text in (root / "labels").rglob("*.txt"):
        shutil.move(text, root / "images" / text.relative_to(root / "labels"))


def flat(root):
    for text in list((root / "labels").rglob("*.txt")):
        shutil.move(text, root / "labels" / text.name)


def without_texts_of_val(root):
    (root / "labels/val/c.txt").unlink()


@pytest.mark.parametrize("change, message", [
    (beside_the_images, "images/train/a.txt: is not where the labels of .*, expected .*labels/train/a.txt"),
    (flat, "labels/a.txt: is not where the labels of .*, expected .*labels/train/a.txt"),
    (moved("labels", "annots"), "images/train: none of its 3 images has a text file, the first would be .*a"),
    (moved("labels/train/a.txt", "labels/train/a.TXT"), "a.TXT: is not where the labels .* expected .*a.t"),
    (moved("labels/train/a.txt", "images/train/a.txt"), "images/train/a.txt: is not where the labels of"),
    (moved("labels/train/a.txt", "labels/a.txt"), "labels/a.txt: is not where the labels of"),
    (moved("labels/train/a.txt", "labels/train/more/a.txt"), "more/a.txt: is not where the labels of"),
    (without_texts_of_val, "images/val: none of its 1 images has a text file"),
    (moved("labels/train/a.txt", "labels/train/A.TXT"), "A.TXT: has no image in"),
])
@pytest.mark.parametrize("listed", [True, False])
def test_labels_that_are_elsewhere(folders, tmp_path, change, message, listed):
    """No image is normal by a label that nobody read."""
    change(folders)
    if not listed:
        (folders / "data.yaml").unlink()
        (folders / "classes.txt").write_text("crack\nspot\n")
        message = "|".join([message, "is not where the labels of|none of its|has no image"])
    with pytest.raises(InputError, match=message):
        converted(folders, tmp_path)
    assert not (tmp_path / "out").exists()


def test_an_image_without_a_text_file_beside_others_is_normal(folders, tmp_path):
    (folders / "images/train/README.txt").write_text("of no image")
    assert converted(folders, tmp_path)["b"].normal


@pytest.mark.parametrize("text, message", [
    ("train: 5\nnames: [a]\n", "data.yaml: train is 5, expected a folder of images, or a list"),
    ("train: [5]\nnames: [a]\n", r"data.yaml: train is \[5\], expected a folder of images, or a list"),
    ("train: {a: b}\nnames: [a]\n", "data.yaml: train is {'a': 'b'}, expected a folder"),
    ("train: images/train\nnc: 3\nnames: [crack, spot]\n", "data.yaml: nc is 3, but names has 2 classes"),
    ("train: images/train\nnc: two\nnames: [crack, spot]\n", "data.yaml: nc is 'two', but names has 2"),
    ("train: images/train\nnames: [crack, null]\n", "data.yaml: class name None, expected a text"),
    ("train: images/train\nnames: [crack, yes]\n", "data.yaml: class name True, expected a text; quotes"),
    ("train: images/train\nlabel_set: NIH boxes\nnames: [Mass, Crack]\n",
     "data.yaml: class 'Crack' is not one of the 8 findings of NIH boxes"),
])
def test_bad_yaml(folders, tmp_path, text, message):
    (folders / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        converted(folders, tmp_path)


def test_a_class_no_finding_is_no_finding(folders, tmp_path, caplog):
    (folders / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [Foo, No finding]\n")
    records = converted(folders, tmp_path)
    assert records["a"].normal and not records["d"].normal and records["d"].label_set.findings == ("Foo",)
    assert "data.yaml: 1 rows of the class no finding left out" in caplog.text


def test_findings_that_a_shipped_set_has_and_the_names_lack_are_unknown(folders, tmp_path, caplog):
    (folders / "data.yaml").write_text(yaml.safe_dump({
        "train": "images/train", "val": "images/val", "label_set": "NIH boxes", "names": ["Mass", "Nodule"]}))
    records = converted(folders, tmp_path)
    assert records["b"].label_set is NIH_BOXES and not records["b"].normal
    assert all(record.unknown == (0, 1, 2, 3, 6, 7) for record in records.values())
    assert "data.yaml: 6 findings of NIH boxes are no classes and are unknown" in caplog.text


META = "image_id,dim0,dim1,{}\na,40,80,{}\nb,40,80,{}\nc,40,80,{}\nd,40,80,{}\n"


@pytest.mark.parametrize("column", ["patient", "patient_id", "Patient ID"])
@pytest.mark.parametrize("given", [True, False])
def test_patients_of_a_table_of_sizes(folders, tmp_path, column, given):
    table = tmp_path / "sizes.csv" if given else folders / "meta.csv"
    options = {"meta": [table]} if given else {}
    table.write_text(META.format(column, 1, 2, 3, "007"))
    assert {name: record.patient for name, record in converted(folders, tmp_path, **options).items()} == {
        "a": "1", "b": "2", "d": "007"}
    table.write_text(META.format(column, 1, 2, 1, 4))
    with pytest.raises(InputError, match="leak: patient 1 is in train and in val"):
        converted(folders, tmp_path, **options)


def test_a_patient_by_two_columns(folders, tmp_path):
    (folders / "meta.csv").write_text(META.format("patient,patient_id", "1,1", "2,2", "3,9", "4,4"))
    with pytest.raises(InputError, match="meta.csv: image c has patient_id 9, and patient 3 elsewhere"):
        converted(folders, tmp_path)


@pytest.mark.parametrize("names, message", [
    (("b.png", "a.png", "c.png", "d.png"), "meta.csv, row 2: file_name 'b.png' is no file of image a"),
    (("nope.png", "b.png", "c.png", "d.png"), "meta.csv, row 2: file_name 'nope.png' is no file of image a"),
    (("x/a.dicom", "", " ", "d"), ""),
])
def test_names_of_originals(folders, tmp_path, names, message):
    """Blank: the folder's own file."""
    (folders / "meta.csv").write_text(META.format("file_name", *names))
    if message:
        with pytest.raises(InputError, match=message):
            converted(folders, tmp_path)
        return
    assert {name: record.file_name for name, record in converted(folders, tmp_path).items()} == {
        "a": "x/a.dicom", "b": "images/train/b.png", "d": "d"}


def test_an_unknown_finding_counts_once(folders, tmp_path):
    (folders / "unknown.csv").write_text("image_id,class_name\nb,crack\nb,Crack\nb,spot\nb,crack\n")
    assert converted(folders, tmp_path)["b"].unknown == (0, 1)


READERS = [("A|B", "R1"), ("A|B",), ("NA",), ("50%", "%7C", "%257C"), ("null", "R8"), ("none",), ("007",)]


def test_any_name_of_a_reader_survives(tmp_path):
    boxes = np.arange(len(READERS))[:, None] * 4 + np.array([1., 1, 4, 4])
    truth = Predictions(boxes, np.ones(len(boxes)), np.zeros(len(boxes), np.int64), NIH_BOXES)
    names = {"a": "a.png", "of_a": "of/a.png", "b": "x/b.png", "1.2 x": "1.2 x.png"}
    write_json(tmp_path / "in.json", to_coco([
        Record(image_id, name, 40, 80, truth, tuple(READERS)) for image_id, name in names.items()]))
    for name in names.values():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((40, 80), np.uint8))
    convert("coco", tmp_path / "yolo", Conversion(folds=2, to="yolo", copy=True),
            annotations=tmp_path / "in.json", images=tmp_path / "images")
    back = converted(tmp_path / "yolo", tmp_path) | converted(tmp_path / "yolo", tmp_path, "val")
    assert {name: record.file_name for name, record in back.items()} == names
    assert all(record.readers == tuple(READERS) for record in back.values())
