import contextlib
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vindr_det.data import convert as conversion
from vindr_det.data.coco import load_coco
from vindr_det.data.release import Conversion
from vindr_det.data.vinbigdata import read_annotations, to_records
from vindr_det.exceptions import InputError
from vindr_det.files import read_json
from vindr_det.imaging.sizes import read_sizes


def convert(annotations, meta, out, options=None, **tables):
    return conversion.convert("vinbigdata", out, options, annotations=annotations, meta=meta, **tables)


@pytest.fixture
def tables(phantoms):
    return phantoms / "raw/train.csv", phantoms / "raw/train_meta.csv"


def ids(path):
    return {image["file_name"] for image in read_json(path)["images"]}


def test_every_readers_box_is_kept_beside_the_consensus(tables, tmp_path):
    convert(*tables, tmp_path, Conversion(folds=2))
    frame = pd.read_csv(tables[0])
    coco = read_json(tmp_path / "instances_readers.json")
    drawn = frame[frame["class_id"] != 14]
    assert len(coco["annotations"]) == len(drawn)
    names = pd.Series([annotation["readers"][0] for annotation in coco["annotations"]]).value_counts()
    assert names.to_dict() == drawn["rad_id"].value_counts().to_dict()
    assert ids(tmp_path / "instances_readers.json") == ids(tmp_path / "instances_all.json")


@pytest.fixture(scope="module")
def files(phantoms, tmp_path_factory):
    """Every kind of COCO file that a conversion writes, by name."""
    out = tmp_path_factory.mktemp("converted")
    convert(phantoms / "raw/train.csv", phantoms / "raw/train_meta.csv", out,
            Conversion(folds=2, frequent=("R8",), label_sets=True))
    return {path.name: path for path in sorted(out.glob("*.json"))}


def test_an_image_keeps_its_id_in_all_files(files):
    """And an annotation, but for those of single readers, which stand in one file only."""
    whole = read_json(files["instances_all.json"])
    names = {image["id"]: image["file_name"] for image in whole["images"]}
    boxes = {annotation["id"]: annotation for annotation in whole["annotations"]}
    assert sorted(names) == [*range(1, 25)] and len(files) == 13
    for name, path in files.items():
        coco = read_json(path)
        assert coco["images"] and all(names[image["id"]] == image["file_name"] for image in coco["images"])
        assert {box["image_id"] for box in coco["annotations"]} <= {image["id"] for image in coco["images"]}
        assert len({box["id"] for box in coco["annotations"]}) == len(coco["annotations"])
        if name != "instances_readers.json":
            assert all(boxes[box["id"]] == box for box in coco["annotations"])


def test_pycocotools_takes_every_file(files):
    for path in files.values():
        truth = COCO(str(path))
        detections = [annotation | {"score": 1.0} for annotation in read_json(path)["annotations"]]
        run = COCOeval(truth, truth.loadRes(detections), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
        assert run.stats[1] == pytest.approx(1), path.name


@pytest.mark.detectron2
def test_detectron2s_own_loader_and_evaluator_take_every_file(files, tmp_path):
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets import register_coco_instances
    from detectron2.evaluation import COCOEvaluator
    from detectron2.structures import Boxes, BoxMode, Instances
    from torch import ones, tensor

    for name, path in files.items():
        register_coco_instances(name, {}, str(path), "images")
        evaluator = COCOEvaluator(name, ("bbox",), False, str(tmp_path), use_fast_impl=False)
        evaluator.reset()
        for given in DatasetCatalog.get(name):
            drawn = given["annotations"]
            boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in drawn]
            detections = Instances((given["height"], given["width"]), pred_boxes=Boxes(boxes))
            detections.scores = ones(len(drawn))
            detections.pred_classes = tensor([a["category_id"] for a in drawn]).long()
            evaluator.process([given], [{"instances": detections}])
        assert evaluator.evaluate()["bbox"]["AP50"] == pytest.approx(100), name
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_label_sets_hold_what_so_many_readers_drew(tables, tmp_path):
    convert(*tables, tmp_path, Conversion(folds=2, label_sets=True))
    everything = read_json(tmp_path / "instances_all.json")["annotations"]
    for min_count in (2, 3):
        kept = read_json(tmp_path / f"instances_all_min{min_count}.json")["annotations"]
        expected = [box["bbox"] for box in everything if len(box["readers"]) >= min_count]
        assert sorted(box["bbox"] for box in kept) == sorted(expected)
        assert ids(tmp_path / f"instances_train_fold0_min{min_count}.json") == ids(
            tmp_path / "instances_train_fold0.json")
    assert 0 < len(kept) < len(everything)


def test_a_patients_images_share_a_fold(tables, tmp_path):
    names = sorted(pd.read_csv(tables[1])["image_id"])
    owners = [f"p{number // 3}" for number in range(len(names))]
    patients = pd.DataFrame({"image_id": names, "patient_id": owners})
    patients.to_csv(tmp_path / "patients.csv", index=False)
    convert(*tables, tmp_path / "out", Conversion(folds=3), patients=tmp_path / "patients.csv")
    folds = pd.read_csv(tmp_path / "out/folds.csv").merge(patients)
    assert (folds.groupby("patient_id")["fold"].nunique() == 1).all()
    patients[1:].to_csv(tmp_path / "patients.csv", index=False)
    with pytest.raises(InputError, match=f"1 images have no patient, the first is {names[0]}"):
        convert(*tables, tmp_path / "none", patients=tmp_path / "patients.csv")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("row, message", [
    (",p", "p.csv, row 26: image_id is empty"),
    ("x,", "p.csv, row 26: patient_id is empty"),
    ("{first},other", "p.csv, row 26: image_id {first} is repeated"),
])
def test_bad_patients(tables, tmp_path, row, message):
    names = sorted(pd.read_csv(tables[1])["image_id"])
    rows = [*(f"{name},p" for name in names), row.format(first=names[0])]
    (tmp_path / "p.csv").write_text("\n".join(["image_id,patient_id", *rows]))
    with pytest.raises(InputError, match=message.format(first=names[0])):
        convert(*tables, tmp_path / "out", patients=tmp_path / "p.csv")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rows, message", [
    (0, "t.csv: has a header and no row below it"),
    (1, "--folds 5: images to split: 1, expected at least 2"),
    (3, "--folds 5: expected 2 to 3 .the number of images."),
])
def test_too_few_images(tmp_path, rows, message):
    lines = ["image_id,class_id,rad_id,x_min,y_min,x_max,y_max", *(f"{i},14,R1,,,," for i in "abc"[:rows])]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "m.csv").write_text("image_id,dim0,dim1\na,9,9\nb,9,9\nc,9,9\n")
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "t.csv", tmp_path / "m.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_reader_is_refused(tables, tmp_path):
    with pytest.raises(InputError, match="--reader-groups R99: no such reader"):
        convert(*tables, tmp_path / "out", Conversion(frequent=("R99",)))


def test_images_that_lose_all_boxes_are_counted(tmp_path):
    rows = ["a,Cardiomegaly,3,R8,10,20,30,40", "a,No finding,14,R9,,,,", "b,No finding,14,R8,,,,",
            "c,No finding,14,R8,,,,", "d,ILD,5,R8,1,1,9,9", "d,ILD,5,R9,1,1,9,9"]
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "m.csv").write_text("image_id,dim0,dim1\n" + "".join(f"{i},100,90\n" for i in "abcd"))
    summary = convert(tmp_path / "t.csv", tmp_path / "m.csv", tmp_path / "out",
                   Conversion(folds=2, min_readers=2))
    assert "4 images (3 normal), 1 boxes" in summary
    assert "1 images lost all their boxes to --min-readers 2" in summary


def test_real_table_to_consensus_and_folds(data, tmp_path):
    began = time.process_time()
    summary = convert(data / "vinbig/train.csv.gz", data / "vinbig/train_meta.csv", tmp_path)
    seconds = time.process_time() - began
    assert seconds < 15, seconds  # of the processor: 3
    assert summary.startswith("15000 images (10606 normal), 22719 boxes, 5 folds")
    numbered = read_json(tmp_path / "instances_readers.json")["images"]
    id_of = {image["file_name"]: image["id"] for image in numbered}
    for path in tmp_path.glob("*.json"):
        assert all(id_of[image["file_name"]] == image["id"] for image in read_json(path)["images"])
    coco = read_json(tmp_path / "instances_all.json")
    assert len(coco["images"]) == 15000 and len(coco["annotations"]) == 22719
    assert len(read_json(tmp_path / "instances_readers.json")["annotations"]) == 36096
    for fold in range(5):
        train, val = (ids(tmp_path / f"instances_{name}_fold{fold}.json") for name in ("train", "val"))
        assert not train & val and len(train | val) == 15000
    folds = pd.read_csv(tmp_path / "folds.csv")
    assert folds["image_id"].is_unique and set(folds["fold"]) == set(range(5))
    assert_even(tmp_path, folds)


def assert_even(folder, folds):
    """Classes of over 300 images deviate at most 10 % from fold to fold's mean."""
    records, repaired = load_coco(folder / "instances_all.json")
    assert not repaired
    fold_of = dict(zip(folds["image_id"], folds["fold"], strict=True))
    counts = np.zeros((5, 15))
    for record in records:
        labels = np.unique(record.truth.labels) if len(record.truth) else [14]
        counts[fold_of[record.image_id], labels] += 1
    large = counts.sum(axis=0) > 300
    assert large.sum() >= 12
    assert (np.abs(counts / counts.mean(axis=0) - 1)[:, large] <= 0.10).all()


def test_real_rare_readers(data, tmp_path):
    summary = convert(data / "vinbig/train.csv.gz", data / "vinbig/train_meta.csv", tmp_path,
                   Conversion(frequent=("R8", "R9", "R10")))
    assert "rare readers: 847 images (599 normal)" in summary
    rare = ids(tmp_path / "instances_val_rare_readers.json")
    frame = pd.read_csv(data / "vinbig/train.csv.gz")
    often = frame.loc[frame["rad_id"].isin(["R8", "R9", "R10"]), "image_id"] + ".png"
    assert len(rare) == 847 and not rare & set(often)
    names = {name for coco in read_json(tmp_path / "instances_val_rare_readers.json")["annotations"]
             for name in coco["readers"]}
    assert names and not names & {"R8", "R9", "R10"}
    for fold in range(5):
        assert not rare & ids(tmp_path / f"instances_train_fold{fold}.json")
        assert not rare & ids(tmp_path / f"instances_val_fold{fold}.json")


def test_a_patient_with_an_image_of_rare_readers_is_held_out_whole(tmp_path):
    header = "image_id,class_id,rad_id,x_min,y_min,x_max,y_max"
    rows = [f"{name},3,{reader},10,20,30,40" for name in "abcdefgh" for reader in ("R8", "R9", "R10")]
    rows += ["z,3,R11,10,20,30,40", "z,3,R12,10,20,30,40"]
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "m.csv").write_text("image_id,dim0,dim1\n" + "".join(f"{i},100,90\n" for i in "abcdefghz"))
    (tmp_path / "p.csv").write_text("image_id,patient_id\n" + "".join(
        f"{i},{'one' if i in 'az' else i}\n" for i in "abcdefghz"))
    convert(tmp_path / "t.csv", tmp_path / "m.csv", tmp_path / "out",
            Conversion(folds=2, frequent=("R8", "R9", "R10")), patients=tmp_path / "p.csv")
    folds = pd.read_csv(tmp_path / "out/folds.csv").set_index("image_id")["fold"]
    assert set(folds[folds == -1].index) == {"a", "z"}
    assert ids(tmp_path / "out/instances_val_rare_readers.json") == {"a.png", "z.png"}


def small(folder, images="abcdefgh", header="image_id,dim0,dim1\n"):
    """t.csv and m.csv: two readers on each image, every third one normal."""
    lines = ["image_id,class_id,rad_id,x_min,y_min,x_max,y_max"]
    for number, name in enumerate(images):
        what = "8,{},1,2,30,40" if number % 3 else "14,{},,,,"
        lines += [f"{name},{what.format(reader)}" for reader in ("R1", "R2")]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    (folder / "m.csv").write_text(header + "".join(f"{name},100,200\n" for name in images))
    return folder / "t.csv", folder / "m.csv"


def test_nothing_of_an_earlier_conversion_stays(tmp_path, caplog):
    """A label set of other folds would train on the new validation images."""
    tables, out = small(tmp_path), tmp_path / "out"
    convert(*tables, out, Conversion(folds=4, label_sets=True))
    assert (out / "instances_train_fold3_min2.json").is_file()
    assert not caplog.text
    for name in ("mine.json", "instances_mine.json"):
        (out / name).write_text("{}")
    convert(*tables, out, Conversion(folds=2))
    names = {path.name for path in out.iterdir()}
    folds = {f"instances_{part}_fold{fold}.json" for fold in (0, 1) for part in ("train", "val")}
    assert names == folds | {"instances_all.json", "instances_readers.json", "folds.csv", "labels.csv",
                             "conversion.txt", "mine.json", "instances_mine.json"}
    assert "1 files of annotations that are not of this conversion stay, the first is inst" in caplog.text


def test_a_conversion_that_fails_changes_nothing(tmp_path, monkeypatch):
    tables, out = small(tmp_path), tmp_path / "out"
    convert(*tables, out, Conversion(folds=4, label_sets=True))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr("vindr_det.data.convert.write_csv", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(*tables, out, Conversion(folds=2, seed=1))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("at", range(9))
def test_a_conversion_that_is_killed_mixes_nothing(tmp_path, monkeypatch, at):
    """Killed between any two renames or removals, then done again."""
    tables, out = small(tmp_path), tmp_path / "out"
    convert(*tables, out, Conversion(folds=4, label_sets=True))
    assert len(list(out.iterdir())) == 18
    old = {path.name: path.read_bytes() for path in out.glob("instances*fold*")}
    calls = []

    def dying(act):
        def called(self, *args, **options):
            if self.parent in (out, *out.glob(".partial-*")) and ".partial" not in self.name:
                calls.append(self)
                if len(calls) == 8 + 3 * at:
                    raise KeyboardInterrupt
            return act(self, *args, **options)
        return called

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying(Path.replace))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        with contextlib.suppress(KeyboardInterrupt):
            convert(*tables, out, Conversion(folds=2, seed=1))
    left = {path.name: path.read_bytes() for path in out.glob("instances*fold*")}
    stale = {name for name in left if left[name] == old.get(name)}
    assert not stale or stale == set(left)  # all old, or none
    convert(*tables, out, Conversion(folds=2, seed=1))
    convert(*tables, tmp_path / "fresh", Conversion(folds=2, seed=1))
    assert ({path.name: path.read_bytes() for path in out.iterdir()}
            == {path.name: path.read_bytes() for path in (tmp_path / "fresh").iterdir()})


def test_a_list_of_files_of_somebody_elses(tmp_path):
    tables, out = small(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "conversion.txt").write_text("../t.csv\n")
    with pytest.raises(InputError, match="conversion.txt: is no list of this tool's files"):
        convert(*tables, out, Conversion(folds=2))
    assert [path.name for path in out.iterdir()] == ["conversion.txt"]


QC = "image_id,file,status,reason\na,a.dicom,failed,damaged\nb,b.dicom,ok,\n"


def test_images_that_could_not_be_prepared_are_left_out(tmp_path, caplog):
    csv, _ = small(tmp_path)
    (tmp_path / "images").mkdir()
    sizes = "".join(f"{name},100,200\n" for name in "bcdefgh")
    (tmp_path / "images/meta.csv").write_text("image_id,dim0,dim1\n" + sizes)
    (tmp_path / "images/qc.csv").write_text(QC)
    for name in "bcdefgh":
        (tmp_path / f"images/{name}.png").write_bytes(b"png")
    summary = convert(csv, tmp_path / "images/meta.csv", tmp_path / "out", Conversion(folds=2),
                   images=tmp_path / "images")
    assert summary.startswith("7 images")
    assert "1 annotated images could not be prepared (qc.csv) and are left out: a" in caplog.text
    convert(csv, tmp_path / "m.csv", tmp_path / "out2", Conversion(folds=2), images=tmp_path / "images")
    assert ids(tmp_path / "out2/instances_all.json") == {f"{name}.png" for name in "bcdefgh"}
    (tmp_path / "images/b.png").unlink()
    with pytest.raises(InputError, match="1 annotated images are missing, the first is b; see qc.csv"):
        convert(csv, tmp_path / "m.csv", tmp_path / "out3", Conversion(folds=2), images=tmp_path / "images")
    (tmp_path / "images/qc.csv").write_text("my,notes\n1,2\n")
    with pytest.raises(InputError, match="row 2: image_id a has no size in the size table; .*qc.csv"):
        convert(csv, tmp_path / "images/meta.csv", tmp_path / "out4", Conversion(folds=2))


@pytest.mark.parametrize("header", ["image_id,Patient ID", "image_id,patient_ID", "Image ID,Patient Id"])
def test_a_patients_column_goes_by_its_letters(tmp_path, header):
    tables = small(tmp_path)
    owners = "".join(f"{name},p{number // 2}\n" for number, name in enumerate("abcdefgh"))
    (tmp_path / "p.csv").write_text(f"{header}\n{owners}")
    convert(*tables, tmp_path / "out", Conversion(folds=2), patients=tmp_path / "p.csv")
    folds = pd.read_csv(tmp_path / "out/folds.csv")["fold"].tolist()
    assert folds[::2] == folds[1::2]


def test_the_real_consensus_stays_as_it_is(data, tmp_path):
    """Fused, written as a table without readers, read again: the same boxes, though 88 pairs overlap."""
    sizes = read_sizes(data / "vinbig/train_meta.csv")
    fused = to_records(read_annotations(data / "vinbig/train.csv.gz", sizes), sizes)
    rows = [(record.image_id, label, *box) for record in fused
            for label, box in (zip(record.truth.labels, record.truth.boxes.tolist(), strict=True)
                               if len(record.truth) else [(14, [None] * 4)])]
    table = pd.DataFrame(rows, columns=["image_id", "class_id", "x_min", "y_min", "x_max", "y_max"])
    table.assign(agreement=np.arange(len(table)) % 3 / 3).to_csv(tmp_path / "t.csv", index=False)
    again = to_records(read_annotations(tmp_path / "t.csv", sizes), sizes)
    assert sum(len(record.truth) for record in again) == sum(len(record.truth) for record in fused) == 22719
    assert sum(record.normal for record in again) == 10606
