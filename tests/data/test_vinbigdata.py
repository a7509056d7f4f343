import numpy as np
import pytest

from vindr_det.data.vinbigdata import EDGES, read_annotations, to_records
from vindr_det.exceptions import InputError
from vindr_det.imaging.sizes import read_sizes
from vindr_det.tables import read_csv, write_csv

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
    ("", "train.csv: has a header and no row below it"),
    (GOOD + ",ILD,5,R9,10,20,30,40\n", "row 3: image_id is empty"),
    (GOOD + "a,ILD,5,,10,20,30,40\n", "row 3: rad_id is empty"),
    (GOOD + "a,ILD,5, ,10,20,30,40\n", "row 3: rad_id is empty"),
    ("a,ILD,,R9,10,20,30,40\n", "row 2: class_id nan is unknown"),
    ("a,,5,R9,10,20,30,40\n", "row 2: class_name nan does not belong to class_id 5, expected 'ILD'"),
    ("a,ILD,5,R9,10,20,wide,40\n", r"row 2: box \[10, 20, wide, 40\], expected four finite numbers"),
    ("a,ILD,5,R9,10,20,inf,40\n", "row 2: box .*inf.*, expected four finite numbers"),
    ("a,ILD,5,R9,-inf,20,30,40\n", "row 2: box .*inf.*, expected four finite numbers"),
    ("a,ILD,5,R9,10,20,1e400,40\n", "row 2: box .*(inf|1e400).*, expected four finite numbers"),
    ("a,ILD,5,R9,10,40,30,20\n", "row 2: .*y_min >= y_max"),
    ("a,ILD,5,R9,50.2,20,50.4,40\n", "row 2: .*x_min >= x_max"),  # nothing is left of it inside
    ("a,ILD,5,R9,10,20,50.6,40\n", "row 2.*leaves image a of width 50 and height 100"),
    (GOOD + "a,No finding,14,R9,1,2,3,4\n", r"row 3: class 14 \(No finding\) has the box .*, expected none"),
    (GOOD + "a,No finding,14,R9,,,3,\n", "row 3: class 14 .*nan.*, expected none, or 0 0 1 1"),
    (GOOD + "a,No finding,14,R9,x,,,\n", "row 3: box .*, expected four finite numbers"),
    (GOOD + "a,No finding,14,R8,,,,\n", "row 3: reader R8 has class 14 .* on image a beside findings"),
    ("a,No finding,14,R8,,,,\n" + GOOD, "row 2: reader R8 has class 14"),
])
def test_errors_name_row_value_and_expectation(tmp_path, rows, message):
    csv, meta = write(tmp_path, rows)
    with pytest.raises(InputError, match=message):
        read_annotations(csv, read_sizes(meta))


@pytest.mark.parametrize("row, corners", [
    ("a,Cardiomegaly,3,R8,-0.4,20,50.3,100.00001", [0, 20, 50, 100]),  # scaled and rounded
    ("a, cardiomegaly ,3, R8 ,10,20,30,40", [10, 20, 30, 40]),
    ("a,Cardiomegaly,3.0,R8,10,20,30,40", [10, 20, 30, 40]),
    ("a,No finding,14,R8,0,0,1,1", [np.nan] * 4),  # the competition's box of class 14
    ("a,No Finding,14,R8,0,0,0,0", [np.nan] * 4),  # an empty box filled with zeros
    ("a,No finding,14,R8,NA,nan,null,", [np.nan] * 4),
    ("a, No finding, 14, R8, , , , ", [np.nan] * 4),
])
def test_what_others_write_is_understood(tmp_path, row, corners):
    csv, meta = write(tmp_path, row + "\n")
    frame = read_annotations(csv, read_sizes(meta))
    assert np.array_equal(frame[list(EDGES)].to_numpy()[0], corners, equal_nan=True)
    assert frame["rad_id"].tolist() == ["R8"] and frame["class_id"].tolist() == [3 if corners[0] >= 0 else 14]


def test_without_sizes_a_box_is_still_not_left_of_the_image(tmp_path):
    csv, _ = write(tmp_path, "a,ILD,5,R9,-1,20,30,40\n")
    with pytest.raises(InputError, match="row 2: .* leaves image a, expected 0 or more"):
        read_annotations(csv)


def test_a_repeated_row_counts_once_and_is_logged(tmp_path, caplog):
    """Twice in the mean of three, it would pull the box from 12 to 11.3."""
    rows = [GOOD, GOOD.replace("R8,10", "R9,12"), GOOD.replace("R8,10", "R10,14")]
    csv, meta = write(tmp_path, "".join([*rows, rows[0], rows[0], "b,No finding,14,R8,,,,\n" * 2]),
                      "image_id,dim0,dim1\na,100,50\nb,9,9\n")
    sizes = read_sizes(meta)
    frame = read_annotations(csv, sizes)
    assert "3 repeated rows count once; the first of them is row 5" in caplog.text
    records = to_records(frame, sizes)
    assert records[0].truth.boxes.tolist() == [[12, 20, 30, 40]] and len(frame) == 4
    assert records[0].truth.scores.tolist() == [1] and records[1].normal


def test_shares_of_readers_are_shares(tmp_path):
    """No reader is nobody: 1/3 of three, and nothing else."""
    csv, meta = write(tmp_path, GOOD + "".join(f"a,No finding,14,{name},,,,\n" for name in ("NA", "nan")))
    sizes = read_sizes(meta)
    assert to_records(read_annotations(csv, sizes), sizes)[0].truth.scores.tolist() == [1 / 3]


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
    ("image_id,dim0,dim1\n", "has a header and no row"),
    ("image_id,dim0,dim1\na,9,9\n,100,50\n", "row 3: image_id is empty"),
    ("image_id,dim0,dim1\na,9,9\nb,,50\n", "row 3: image b has size .*nan"),
    ("image_id,dim0,dim1\na,inf,50\n", "row 2.*size .*inf"),
    ("image_id,dim0,dim1\na,1e300,50\n", "row 2.*size"),
    ("image_id,dim0,dim1\na,-100,50\n", "row 2.*size"),
    ("image_id,dim0,dim1\na,100.5,50\n", "row 2.*size"),
    ("image_id,dim0,dim1\na,100,wide\n", "row 2.*size .100, wide., expected two positive whole numbers"),
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


NO_READER = "image_id,class_id,{},x_min,y_min,x_max,y_max\n"


@pytest.mark.parametrize("name", ["rater_id", "physician", "rads", "reader_number", "R_ID", "rad_id_1"])
@pytest.mark.parametrize("rows", [
    "a,14,A,,,,\na,14,B,,,,\n",
    "a,14,A,,,,\na,14,B,0,0,1,1\n",
    "a,8,A,1,2,30,40\na,8,B,1,2,30,40\n",
    "a,8,A,1,2,30,40\na,8,B,2,2,31,40\n",
], ids=["normal twice", "mark", "same box", "box that overlaps"])
def test_readers_by_another_name_are_no_consensus(tmp_path, name, rows):
    """22,719 boxes of three readers each would all have an agreement of 1."""
    (tmp_path / "t.csv").write_text(NO_READER.format(name) + rows)
    with pytest.raises(InputError, match=f"t.csv: column '{name}' seems to name readers, expected .* rad_id"):
        read_annotations(tmp_path / "t.csv")


def test_normal_images_that_stand_there_twice_are_no_consensus(tmp_path):
    """Readers' rows from which the column was cut; nothing tells whose they are."""
    (tmp_path / "t.csv").write_text("image_id,class_id,x_min,y_min,x_max,y_max\nb,8,1,2,3,4\n"
                                    "a,14,,,,\na,14,,,,\n")
    with pytest.raises(InputError, match="row 4: class 14 .No finding. is on image a twice.*rad_id"):
        read_annotations(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(NO_READER.format("rater") + "a,8,A,1,2,30,40\na,14,B,,,,\n")
    with pytest.raises(InputError, match="row 3: .* class 14 .* beside findings, .* a column rad_id"):
        read_annotations(tmp_path / "t.csv")


@pytest.mark.parametrize("name, values", [
    ("agreement", "1 .67 .33"), ("num_readers", "3 2 1"), ("area", "5 6 7"), ("source", "x x x")])
def test_extra_columns_of_a_consensus_are_no_readers(tmp_path, name, values):
    first, second, third = values.split()
    rows = f"a,8,{first},1,2,30,40\na,8,{second},50,50,90,90\na,3,{third},1,2,30,40\nb,14,{first},,,,\n"
    (tmp_path / "t.csv").write_text(NO_READER.format(name) + rows)
    assert set(read_annotations(tmp_path / "t.csv")["rad_id"]) == {"consensus"}


def test_a_share_of_readers_names_none(tmp_path):
    (tmp_path / "t.csv").write_text(NO_READER.format("score") + "a,8,.9,1,2,30,40\na,8,.5,2,2,31,40\n")
    assert len(read_annotations(tmp_path / "t.csv")) == 2


def test_numbers_of_rows_name_no_reader(tmp_path):
    """Renamed to rad_id, as the error would ask for, each row would be a reader of its own."""
    rows = [f"i{number // 3},14,{number},,,,\n" for number in range(300)]
    (tmp_path / "t.csv").write_text(NO_READER.format("Unnamed: 0") + "".join(rows))
    with pytest.raises(InputError, match="row 3: class 14 .* is on image i0 twice"):
        read_annotations(tmp_path / "t.csv")


def test_the_real_readers_by_another_name(data, tmp_path):
    frame = read_csv(data / "vinbig/train.csv.gz").rename(columns={"rad_id": "expert"})
    for name, part in {"all": frame, "abnormal": frame[frame["class_id"] != 14]}.items():
        write_csv(tmp_path / f"{name}.csv", part)
        with pytest.raises(InputError, match="column 'expert' seems to name readers"):
            read_annotations(tmp_path / f"{name}.csv")


@pytest.mark.parametrize("reader", ["", "R8"], ids=["consensus", "one reader"])
def test_boxes_of_one_are_taken_as_they_are(tmp_path, reader):
    name, value = (",rad_id", f",{reader}") if reader else ("", "")
    (tmp_path / "t.csv").write_text(f"image_id,class_id{name},x_min,y_min,x_max,y_max\n"
                                    f"a,8{value},10,10,50,50\na,8{value},12,12,52,52\nb,14{value},,,,\n")
    (tmp_path / "m.csv").write_text("image_id,dim0,dim1\na,100,200\nb,100,200\n")
    sizes = read_sizes(tmp_path / "m.csv")
    frame = read_annotations(tmp_path / "t.csv", sizes)
    for fusion in ("wbf", "nms", "none"):
        record = to_records(frame, sizes, fusion)[0]
        assert sorted(record.truth.boxes[:, 0]) == [10, 12] and record.truth.scores.tolist() == [1, 1]
    with pytest.raises(InputError, match="--min-readers 2: the table has 1 reader"):
        to_records(frame, sizes, min_readers=2)


def test_a_corner_left_of_the_edge_is_moved_without_sizes_too(tmp_path):
    csv, _ = write(tmp_path, "a,ILD,5,R9,-0.3,-0.5,30,40\n")
    assert read_annotations(csv)[list(EDGES)].values.tolist() == [[0, 0, 30, 40]]


NINES = "9" * 400


def test_endless_numbers_are_one_line(tmp_path):
    csv, meta = write(tmp_path, f"a,ILD,5,R9,10,20,{NINES},40\n")
    with pytest.raises(InputError, match="row 2: box .*, expected four finite numbers"):
        read_annotations(csv)
    csv, meta = write(tmp_path, f"a,ILD,{NINES},R9,10,20,30,40\n", f"image_id,dim0,dim1\na,{NINES},5\n")
    with pytest.raises(InputError, match="row 2: class_id .* is unknown"):
        read_annotations(csv)
    with pytest.raises(InputError, match="row 2: image a has size"):
        read_sizes(meta)


@pytest.mark.parametrize("meta", [
    "Image ID,Dim 0,DIM1\na,100,50\n", "image_id,Width,HEIGHT\na,50,100\n",
    "image_id,dim0,dim1,height,width\na,100,50,100,50\n"])
def test_sizes_go_by_letters_and_digits(tmp_path, meta):
    _, path = write(tmp_path, GOOD, meta)
    assert read_sizes(path).loc["a"].tolist() == [100, 50]


@pytest.mark.parametrize("meta, message", [
    ("image_id,Height,height,width\na,1,2,3\n", "column height is there 2 times"),
    ("image_id,dim0,dim1,height,width\na,9,8,9,8\nb,1,2,3,2\n", "row 3: image b has dim0 1 and height 3"),
    ("image_id,dim0,dim1,w\na,9,8,7\n", "row 2: image a has dim1 8 and w 7, expected"),
])
def test_sizes_that_contradict_themselves(tmp_path, meta, message):
    _, path = write(tmp_path, GOOD, meta)
    with pytest.raises(InputError, match=message):
        read_sizes(path)
