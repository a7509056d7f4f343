import time

import numpy as np
import pandas as pd
import pytest

from vindr_det.annotations import consensus, read_annotations, read_sizes, to_records
from vindr_det.convert import convert
from vindr_det.errors import InputError
from vindr_det.files import read_json
from vindr_det.predictions import Predictions

COLUMNS = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
GOOD = "a,Cardiomegaly,3,R8,10,20,30,40\n"


def write(tmp_path, rows, meta="image_id,dim0,dim1\na,100,50\n"):
    (tmp_path / "train.csv").write_text(COLUMNS + rows)
    (tmp_path / "meta.csv").write_text(meta)
    return tmp_path / "train.csv", tmp_path / "meta.csv"


@pytest.mark.parametrize("rows, message", [
    ("a,Cardiomegaly,15,R8,10,20,30,40\n", "row 2.*class_id 15.*0..14"),
    ("a,Cardiomegaly,x,R8,10,20,30,40\n", "row 2.*class_id x is unknown"),
    ("a,ILD,3,R8,10,20,30,40\n", "row 2.*'ILD' does not belong to class_id 3"),
    (GOOD + "a,ILD,5,R9,30,20,30,40\n", "row 3.*x_min >= x_max"),
    ("a,ILD,5,R9,10,20,,40\n", "row 2.*incomplete"),
    ("a,ILD,5,R9,10,20,60,40\n", "row 2.*leaves image a of width 50 and height 100"),
    ("a,ILD,5,R9,-1,20,30,40\n", "row 2.*leaves image a"),
    ("b,ILD,5,R9,10,20,30,40\n", "row 2.*image_id b has no size"),
])
def test_faults_name_row_value_and_expectation(tmp_path, rows, message):
    csv, meta = write(tmp_path, rows)
    with pytest.raises(InputError, match=message):
        read_annotations(csv, read_sizes(meta))


def test_missing_column_and_file_are_named(tmp_path):
    (tmp_path / "t.csv").write_text("image_id,class_id\na,1\n")
    with pytest.raises(InputError, match="column x_min, y_min, x_max, y_max is missing"):
        read_annotations(tmp_path / "t.csv")
    with pytest.raises(InputError, match="no such file"):
        read_annotations(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("meta", [
    "image_id,dim0,dim1\na,100,50\n",
    "image_id,dim1,dim0\na,50,100\n",
    "width,image_id,height\n50,a,100\n",
])
def test_sizes_go_by_name_not_by_place(tmp_path, meta):
    _, path = write(tmp_path, GOOD, meta)
    assert read_sizes(path).loc["a"].tolist() == [100, 50]


@pytest.mark.parametrize("meta, message", [
    ("image_id,dim0\na,100\n", "column dim1 is missing"),
    ("image_id,dim0,dim1\na,100,50\na,100,50\n", "row 3.*repeated"),
    ("image_id,dim0,dim1\na,0,50\n", "row 2.*size"),
])
def test_bad_sizes(tmp_path, meta, message):
    _, path = write(tmp_path, GOOD, meta)
    with pytest.raises(InputError, match=message):
        read_sizes(path)


def one(box, label=3):
    return Predictions(np.array([box], float), np.ones(1), np.array([label]))


def test_three_readers_of_one_box_agree_fully():
    fused = consensus([one([10, 10, 30, 30]), one([12, 10, 32, 30]), one([11, 10, 31, 30])], 100, 100)
    assert fused.boxes == pytest.approx(np.array([[11, 10, 31, 30]]), abs=0.01)
    assert fused.scores == pytest.approx([1.0])


def test_agreement_is_the_share_of_readers_also_when_one_draws_twice():
    twice = one([10, 10, 30, 30]) + one([11, 10, 31, 30])
    fused = consensus([twice, Predictions(), Predictions()], 100, 100)
    assert fused.scores == pytest.approx([1 / 3])


@pytest.mark.parametrize("fusion, min_readers, boxes", [
    ("wbf", 1, 2), ("wbf", 2, 1), ("wbf", 3, 0), ("nms", 1, 2), ("none", 1, 3),
])
def test_fusions_count(fusion, min_readers, boxes):
    readers = [one([10, 10, 30, 30]), one([11, 10, 31, 30]), one([60, 60, 90, 90])]
    assert len(consensus(readers, 100, 100, fusion, 0.4, min_readers)) == boxes


def test_other_classes_are_not_fused():
    assert len(consensus([one([10, 10, 30, 30], 3), one([10, 10, 30, 30], 5)], 100, 100)) == 2


def test_the_order_of_rows_does_not_matter(tmp_path):
    """A chain: the middle box overlaps both others, which do not overlap enough; who comes first
    takes it. Only a fixed order of readers makes that independent of the file's."""
    rows = [f"a,Cardiomegaly,3,{reader},{x},0,{x + 100},50\n"
            for reader, x in (("R8", 0), ("R9", 30), ("R10", 60))]
    tables = []
    for order in (rows, rows[::-1]):
        csv, meta = write(tmp_path, "".join(order), "image_id,dim0,dim1\na,100,300\n")
        sizes = read_sizes(meta)
        tables.append(to_records(read_annotations(csv, sizes), sizes)[0].truth.boxes)
    assert len(tables[0]) == 2
    assert np.array_equal(*tables)


def test_real_table_to_consensus_and_folds(data, tmp_path):
    began = time.perf_counter()
    convert(data / "vinbig/train.csv.gz", data / "vinbig/train_meta.csv", tmp_path)
    assert time.perf_counter() - began < 15
    coco = read_json(tmp_path / "instances_all.json")
    assert len(coco["images"]) == 15000
    assert len(coco["annotations"]) == 22719
    held_out = [image["file_name"] for fold in range(5)
                for image in read_json(tmp_path / f"instances_val_fold{fold}.json")["images"]]
    assert sorted(held_out) == sorted(image["file_name"] for image in coco["images"])
    for fold in range(5):
        train = read_json(tmp_path / f"instances_train_fold{fold}.json")["images"]
        val = read_json(tmp_path / f"instances_val_fold{fold}.json")["images"]
        assert not {i["file_name"] for i in train} & {i["file_name"] for i in val}
    folds = pd.read_csv(tmp_path / "folds.csv")
    assert folds["image_id"].is_unique and set(folds["fold"]) == set(range(5))
