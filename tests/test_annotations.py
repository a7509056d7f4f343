import numpy as np
import pytest

from vindr_det.annotations import read_annotations, read_sizes, to_records
from vindr_det.errors import InputError

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


@pytest.mark.parametrize("fusion, min_readers, iou_thr, message", [
    ("soft", 1, 0.4, "--fusion soft: expected one of wbf, nms, none"),
    ("none", 2, 0.4, "--min-readers 2 with --fusion none"),
    ("wbf", 0, 0.4, "--min-readers 0"),
    ("wbf", 1, 1.0, "--iou-thr 1.0"),
])
def test_bad_options(tmp_path, fusion, min_readers, iou_thr, message):
    csv, meta = write(tmp_path, GOOD)
    sizes = read_sizes(meta)
    with pytest.raises(InputError, match=message):
        to_records(read_annotations(csv, sizes), sizes, fusion, iou_thr, min_readers)


def test_readers_without_boxes_count(tmp_path):
    """One of three readers drew: a third agrees."""
    rows = GOOD + "".join(f"a,No finding,14,{reader},,,,\n" for reader in ("R9", "R10"))
    csv, meta = write(tmp_path, rows)
    sizes = read_sizes(meta)
    record = to_records(read_annotations(csv, sizes), sizes)[0]
    assert record.truth.scores == pytest.approx([1 / 3]) and record.readers == (("R8",),)
