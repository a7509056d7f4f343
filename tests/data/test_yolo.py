"""YOLO's folders, in and out."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import one_line

from vindr_det.data.coco import load_coco, to_coco
from vindr_det.data.convert import convert
from vindr_det.data.release import Conversion
from vindr_det.exceptions import InputError
from vindr_det.files import read_json, write_json
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH_BOXES, LabelSet
from vindr_det.structures.records import Record


def picture(path, height=40, width=80):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width), np.uint8))


@pytest.fixture
def folders(tmp_path):
    """data.yaml with two parts: a and b in train, c in val, b without a text file."""
    root = tmp_path / "yolo"
    for part, names in (("train", "ab"), ("val", "c")):
        for name in names:
            picture(root / f"images/{part}/{name}.png")
        (root / f"labels/{part}").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.25 0.5\n\n0 0.1 0.1 0.1 0.1\n")
    (root / "labels/val/c.txt").write_text("")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [crack, spot]\n")
    return root


def records_of(path):
    return {record.image_id: record for record in load_coco(path)[0]}


def test_folders_with_parts(folders, tmp_path):
    convert("yolo", tmp_path / "out", Conversion(folds=2), annotations=folders / "data.yaml")
    train, val = (records_of(tmp_path / f"out/instances_{part}.json") for part in ("train", "val"))
    assert list(train) == ["a", "b"] and list(val) == ["c"] and train["b"].normal and val["c"].normal
    # 80 x 40 pixels: center 40, 20 and sides 20, 20; center 8, 4 and sides 8, 4.
    np.testing.assert_allclose(train["a"].truth.boxes, [[30, 10, 50, 30], [4, 2, 12, 6]])
    assert train["a"].truth.labels.tolist() == [1, 0]
    assert train["a"].label_set == LabelSet("yolo", ("crack", "spot"))
    assert train["a"].file_name == "images/train/a.png" and (train["a"].height, train["a"].width) == (40, 80)


def test_a_folder_with_classes(folders, tmp_path):
    (folders / "data.yaml").unlink()
    (folders / "classes.txt").write_text("infiltration\nMass\n")
    convert("yolo", tmp_path / "out", Conversion(folds=2), annotations=folders)
    assert len(records_of(tmp_path / "out/instances_train.json")) == 2
    (folders / "classes.txt").rename(folders / "labels/classes.txt")
    convert("yolo", tmp_path / "out", Conversion(folds=2), annotations=folders, images=folders / "images")
    assert len(records_of(tmp_path / "out/instances_val.json")) == 1


def test_original_sizes_by_a_table(folders, tmp_path):
    (tmp_path / "meta.csv").write_text("image_id,dim0,dim1\na,400,800\nb,1,1\nc,1,1\n")
    convert("yolo", tmp_path / "out", Conversion(folds=2), annotations=folders, meta=[tmp_path / "meta.csv"])
    record = records_of(tmp_path / "out/instances_train.json")["a"]
    np.testing.assert_allclose(record.truth.boxes[0], [300, 100, 500, 300])


def test_names_of_a_shipped_set_are_its_classes(folders, tmp_path):
    names = dict(enumerate(reversed([name.upper() for name in NIH_BOXES.findings])))
    (folders / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "names": names}))
    convert("yolo", tmp_path / "out", Conversion(folds=2), annotations=folders / "data.yaml")
    record = records_of(tmp_path / "out/instances_all.json")["a"]
    assert record.label_set is NIH_BOXES and record.truth.labels.tolist() == [6, 7]


@pytest.mark.parametrize("file, text, message", [
    ("labels/train/a.txt", "2 .5 .5 .1 .1", "a.txt, row 1: class 2 has no name, expected 0 to 1"),
    ("labels/train/a.txt", "\n0.5 .5 .5 .1 .1", "a.txt, row 2: class 0.5 has no name"),
    ("labels/train/a.txt", "0 50 50 10 10", "a.txt, row 1: .*expected shares of the image"),
    ("labels/train/a.txt", "0 .5 .5 .1", "a.txt, row 1: '0 .5 .5 .1', expected five numbers"),
    ("labels/train/a.txt", "0 .5 .5 .1 .1 .9", "a.txt, row 1: .*expected five numbers"),
    ("labels/train/a.txt", "0 .1 .1 .2 .1 .2 .2", "a.txt, row 1: .*expected five numbers"),
    ("labels/train/a.txt", "0 .5 nan .1 .1", "a.txt, row 1: .*expected five numbers"),
    ("labels/train/a.txt", "crack .5 .5 .1 .1", "a.txt, row 1: .*expected five numbers"),
    ("labels/train/a.txt", "0 .5 .5 0 .1", "a.txt, row 1: box .* of image a has no area"),
    ("labels/train/a.txt", "0 .9 .5 .4 .1", "a.txt, row 1: box .* leaves image a of width 80"),
    ("labels/train/z.txt", "", "z.txt: has no image in"),
    ("labels/val/a.txt", "", "a.txt: has no image in"),
    ("data.yaml", "train: images/train\n", "data.yaml: has no names"),
    ("data.yaml", "names: [a, a]\ntrain: images/train\n", "expected each filled in and there once"),
    ("data.yaml", "names: {1: a, 2: b}\ntrain: images/train\n", "names has the keys"),
    ("data.yaml", "names: [a]\ntrain: none/train\n", "none/train is no folder of images"),
    ("data.yaml", "names: [a]\n", "names no folder of images"),
    ("data.yaml", "names: [a\n", "not valid YAML"),
    ("data.yaml", "names: [crack, spot]\ntrain: images/train\nval: images/train\n", "image a is in val and"),
    ("images/val/broken.png", "no picture", ""),
])
def test_bad_input(folders, tmp_path, caplog, file, text, message):
    (folders / file).write_text(text)
    if not message:  # the others are converted
        convert("yolo", tmp_path / "out", Conversion(folds=2), annotations=folders)
        assert "broken.png: cannot be decoded" in caplog.text and "left out: broken" in caplog.text
        return
    with pytest.raises(InputError, match=message):
        convert("yolo", tmp_path / "out", Conversion(folds=2), annotations=folders)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    made = []
    for number in range(12):
        height, width = (int(side) for side in rng.integers(500, 3500, 2))
        low = rng.random((number % 4, 2)) * .5
        high = low + .01 + rng.random((number % 4, 2)) * .4
        boxes = np.round(np.hstack([low, high]) * ([width, height] * 2), 3)
        truth = Predictions(boxes, np.full(len(boxes), .6667), rng.integers(0, 4, len(boxes)), NIH_BOXES)
        made.append(Record(f"1.2.{number}", f"some/1.2.{number}.png", height, width, truth,
                           (("R1", "R10"),) * len(boxes), (5, 7) if number % 3 == 0 else ()))
    return made


def test_to_yolo_and_back_keeps_every_number(records, tmp_path):
    write_json(tmp_path / "in.json", to_coco(records))
    convert("coco", tmp_path / "yolo", Conversion(folds=3, to="yolo"), annotations=tmp_path / "in.json",
            images=_pictures(tmp_path, records))
    convert("yolo", tmp_path / "out", Conversion(folds=3), annotations=tmp_path / "yolo")
    back = records_of(tmp_path / "out/instances_train.json") | records_of(tmp_path / "out/instances_val.json")
    assert len(back) == len(records)
    for record in records:
        other = back[record.image_id]
        sides = np.array([record.width, record.height] * 2)
        assert (np.abs(other.truth.boxes - record.truth.boxes) / sides).max(initial=0) < 1e-6
        assert other.truth.labels.tolist() == record.truth.labels.tolist()
        assert other.truth.scores.tolist() == record.truth.scores.tolist()
        assert (other.unknown, other.readers, other.height, other.width, other.file_name) == (
            record.unknown, record.readers, record.height, record.width, record.file_name)


@pytest.mark.parametrize("name, change, message", [
    ("unknown.csv", ("Nodule", "Nodul"), "unknown.csv, row 2: class 'Nodul' is not one of the 8 findings"),
    ("readers.csv", ("0.6667", "6667"), "readers.csv, row 2: agreement 6667.0, expected 0 to 1"),
    ("unknown.csv", ("1.2.0,", "1.2.77,"), "unknown.csv, row 2: image 1.2.77 is none of the 12 images"),
    ("readers.csv", ("1.2.1,", "1.2.88,"), "readers.csv, row 2: image 1.2.88 is none of the 12 images"),
    ("readers.csv", (",1,", ",2,"), "readers.csv: image 1.2.1 has 1 boxes, but rows"),
    ("labels/train", None, "has 1 boxes, but rows|has a box of"),
])
def test_bad_tables_beside_the_folders(records, tmp_path, name, change, message):
    write_json(tmp_path / "in.json", to_coco(records))
    convert("coco", tmp_path / "yolo", Conversion(folds=3, to="yolo"), annotations=tmp_path / "in.json",
            images=_pictures(tmp_path, records))
    if change is None:  # a box more, and of an unknown finding
        for path in (tmp_path / "yolo").glob("labels/*/1.2.9.txt"):
            path.write_text("5 .5 .5 .1 .1\n")
    else:
        path = tmp_path / "yolo" / name
        path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError, match=message):
        convert("yolo", tmp_path / "out", Conversion(folds=3), annotations=tmp_path / "yolo")


def _pictures(tmp_path, records):
    for record in records:
        picture(tmp_path / "pictures" / record.file_name)
    return tmp_path / "pictures"


def test_what_is_written(records, tmp_path):
    write_json(tmp_path / "in.json", to_coco(records))
    summary = convert("coco", tmp_path / "yolo", Conversion(folds=3, to="yolo", copy=True),
                      annotations=tmp_path / "in.json", images=_pictures(tmp_path, records))
    assert "8 train, 4 val" in summary
    content = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert content["names"] == dict(enumerate(NIH_BOXES.findings)) and content["nc"] == 8
    texts = sorted((tmp_path / "yolo/labels").rglob("*.txt"))
    pictures = sorted((tmp_path / "yolo/images").rglob("*.png"))
    assert len(texts) == len(pictures) == 12 and not any(path.is_symlink() for path in pictures)
    for text in texts:
        rows = np.array([line.split() for line in text.read_text().splitlines()], float).reshape(-1, 5)
        record = next(record for record in records if record.image_id == text.name.removesuffix(".txt"))
        x, y, w, h = rows[:, 1:].T * np.array([record.width, record.height] * 2)[:, None]
        np.testing.assert_allclose(np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1),
                                   record.truth.boxes, atol=1e-6)


def test_yolo_needs_a_new_folder_and_boxes(records, tmp_path, tool):
    write_json(tmp_path / "in.json", to_coco(records))
    (tmp_path / "yolo").mkdir()
    (tmp_path / "yolo/mine.txt").write_text("x")
    result = tool("convert.py", "coco", "--annotations", tmp_path / "in.json", "--to", "yolo", "--out",
                  tmp_path / "yolo")
    assert "is not empty, expected a new folder" in one_line(result)
    assert [path.name for path in (tmp_path / "yolo").iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="--copy: copies images .*, expected --to yolo and --images"):
        convert("coco", tmp_path / "new", Conversion(copy=True), annotations=tmp_path / "in.json", images="x")
    result = tool("convert.py", "coco", "--annotations", tmp_path / "in.json", "--to", "yolo", "--out",
                  tmp_path / "new", "--folds", "3")
    assert result.returncode == 0 and "without images: no --images" in result.stdout


def test_coco_files_of_parts(records, tmp_path):
    write_json(tmp_path / "a.json", to_coco(records[:8]))
    write_json(tmp_path / "b.json", to_coco(records[8:]))
    convert("coco", tmp_path / "out", Conversion(folds=2), annotations=tmp_path / "a.json",
            val_annotations=tmp_path / "b.json")
    assert len(records_of(tmp_path / "out/instances_val.json")) == 4
    boxes = read_json(tmp_path / "out/instances_train.json")["annotations"]
    assert boxes == read_json(tmp_path / "a.json")["annotations"]
    with pytest.raises(InputError, match="a.json: image 1.2.0 is in another part too"):
        convert("coco", tmp_path / "x", annotations=tmp_path / "a.json", val_annotations=tmp_path / "a.json")
    write_json(tmp_path / "c.json", to_coco([Record("x", "x.png", 9, 9, Predictions(label_set=LabelSet(
        "own", ("crack",))))]))
    with pytest.raises(InputError, match="c.json: has the findings of own, crack; expected those of NIH"):
        convert("coco", tmp_path / "x", annotations=tmp_path / "a.json", test_annotations=tmp_path / "c.json")


def owned(records, owners):
    return [replace(record, patient=owner) for record, owner in zip(records, owners, strict=True)]


def test_patients_are_kept_and_share_a_fold(records, tmp_path):
    """By the images' keys, in COCO and in YOLO's folders, there and back."""
    data = to_coco(records)
    for image in data["images"]:
        image["patient_id"] = image["id"] // 3  # a number, as other tools may write it
    write_json(tmp_path / "in.json", data)
    convert("coco", tmp_path / "coco", Conversion(folds=2), annotations=tmp_path / "in.json")
    images = read_json(tmp_path / "coco/instances_all.json")["images"]
    owners = {f"1.2.{number}": image["patient"] for number, image in enumerate(images)}
    assert owners == {f"1.2.{number}": str((number + 1) // 3) for number in range(12)}
    folds = pd.read_csv(tmp_path / "coco/folds.csv", dtype=str).assign(
        owner=lambda table: table["image_id"].map(owners))
    assert folds.groupby("owner")["fold"].nunique().eq(1).all() and folds["fold"].nunique() == 2
    labels = pd.read_csv(tmp_path / "coco/labels.csv", dtype=str)
    assert labels["patient"].tolist() == list(owners.values())
    convert("coco", tmp_path / "yolo", Conversion(folds=2, to="yolo"),
            annotations=tmp_path / "coco/instances_all.json", images=_pictures(tmp_path, records))
    convert("yolo", tmp_path / "back", Conversion(folds=2), annotations=tmp_path / "yolo")
    for part in ("train", "val"):
        back = records_of(tmp_path / f"back/instances_{part}.json")
        assert back and all(record.patient == owners[name] for name, record in back.items())
    table = tmp_path / "yolo/meta.csv"
    table.write_text("\n".join(line[:-1] if line.startswith("1.2.4,") else line
                               for line in table.read_text().splitlines()) + "\n")
    with pytest.raises(InputError, match=r"meta.csv: image 1.2.4 has no patient, but others have one"):
        convert("yolo", tmp_path / "x", Conversion(folds=2), annotations=tmp_path / "yolo")


def test_a_patient_in_two_parts_or_of_some_images(records, tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    write_json(a, to_coco(owned(records[:8], "11223344")))
    write_json(b, to_coco(owned(records[8:], "5564")))
    with pytest.raises(InputError, match="leak: patient 4 is in train and in val"):
        convert("coco", tmp_path / "x", Conversion(folds=2), annotations=a, val_annotations=b)
    write_json(b, to_coco(records[8:]))
    with pytest.raises(InputError, match=r"b.json: image 1.2.8 has no patient, but others have one; .*--pat"):
        convert("coco", tmp_path / "x", Conversion(folds=2), annotations=a, val_annotations=b)
    (tmp_path / "p.csv").write_text("image_id,patient_id\n" + "".join(
        f"{record.image_id},{number}\n" for number, record in enumerate(records)))
    convert("coco", tmp_path / "x", Conversion(folds=2), annotations=a, val_annotations=b,
            patients=tmp_path / "p.csv")
    assert records_of(tmp_path / "x/instances_train.json")["1.2.7"].patient == "7"


def test_the_real_boxes_to_yolo_and_back(data, tmp_path):
    source = data / "nih_boxes"
    tables = {"annotations": source / "boxes.csv", "labels": source / "images.csv"}
    convert("nih-boxes", tmp_path / "coco", **tables, images=source / "images_640")
    convert("nih-boxes", tmp_path / "yolo", Conversion(to="yolo"), **tables, images=source / "images_640")
    convert("yolo", tmp_path / "back", annotations=tmp_path / "yolo/data.yaml")
    for part in ("train", "val"):
        name = f"instances_{part}.json"
        assert read_json(tmp_path / "back" / name) == read_json(tmp_path / "coco" / name)
