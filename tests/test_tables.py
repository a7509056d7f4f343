"""Tables, whoever wrote them: texts stay texts, blanks are seen, separators and archives are known."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vindr_det import cli
from vindr_det.classification.label_table import read_table
from vindr_det.classification.probabilities import read_probabilities
from vindr_det.data.coco import load_coco, to_coco
from vindr_det.data.convert import convert
from vindr_det.data.folds import assign_folds
from vindr_det.data.release import Conversion
from vindr_det.data.truth import read_truth
from vindr_det.data.vinbigdata import read_annotations, to_records
from vindr_det.exceptions import InputError
from vindr_det.files import read_text
from vindr_det.imaging.sizes import read_sizes
from vindr_det.postprocessing.gate_fit import folds_of
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record
from vindr_det.tables import read_csv

#: What pandas takes for nothing, or for a number, unless told otherwise; and a UID whose end is no suffix.
IDS = ["NA", "null", "nan", "None", "N/A", "0012", "1e5", "-1", "True", "inf", "1.2.840.10008.5"]
TABLE = "image_id,fold\na,0\nb,1\n"


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # of no hour: the bytes are in the tests' names
    return buffer.getvalue()


@pytest.mark.parametrize("data", [
    TABLE.encode(), TABLE.replace("\n", "\r\n").encode(), TABLE.encode("utf-8-sig"), TABLE.rstrip().encode(),
    TABLE.replace(",", ";").encode(), TABLE.replace(",", "\t").encode(),
    gzip.compress(TABLE.encode(), mtime=0), gzip.compress(TABLE.encode("utf-8-sig"), mtime=0),
    zipped(a=TABLE), TABLE.replace("a,", "  a ,").encode(),
    TABLE.replace("image_id", "Image ID").encode(), TABLE.replace("image_id", ' "IMAGE_ID" ').encode(),
    TABLE.replace("image_id,", "image_id, \t").encode(), TABLE.replace(",", ", ").encode(),
    (TABLE + "\n,\r\n , \n").encode(), TABLE.replace("\n", "\r").encode(),
], ids=["plain", "windows", "bom", "no end", "semicolons", "tabs", "gzip", "gzip bom", "zip", "spaces",
        "other name", "quoted name", "tab in a name", "comma and space",
        "empty rows of a spreadsheet", "old mac"])
def test_other_programs_tables(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    frame = read_csv(tmp_path / "t.csv", ["image_id", "fold"])
    assert frame.to_dict("list") == {"image_id": ["a", "b"], "fold": [0, 1]}


NO_TABLES = [
    (b"", "t.csv: not a readable CSV"),
    (b"image_id,fold\n", "t.csv: has a header and no row below it"),
    (b"image_id,fold\n,\n;;\n", "t.csv: has a header and no row below it"),
    (b"image_id\na\n", "t.csv: column fold is missing; it has image_id"),
    (b"image_id,fold\na,0\n,1\n", "t.csv, row 3: image_id is empty, expected a value"),
    (b"image_id,fold\na,0\n \t ,1\n", "t.csv, row 3: image_id is empty"),
    (b"image_id,fold\na,0\n\nb,1\n", "t.csv, row 3: image_id is empty"),
    (b"image_id,fold,fold\na,0,1\n", "t.csv: column fold is there 2 times, expected once"),
    (b"image_id,Image ID,fold\na,b,1\n", "t.csv: column image_id is there 2 times"),
    (b"image_id,fold\na,0,7\nb,1,8\n", "t.csv, row 2: has more values than the header has columns"),
    (b"image_id,fold\na,0\nb,1,8\n", "t.csv: not a readable CSV .*line 3"),
    (b'image_id,fold\n"a,0\n', "t.csv: not a readable CSV"),
    (TABLE.encode("utf-16"), "t.csv: not a readable CSV"),
    ("image_id,fold\né,1".encode("latin-1"), "t.csv: not a readable CSV"),
    (gzip.compress(TABLE.encode(), mtime=0)[:-9], "t.csv: damaged archive"),
    (b"PK\x03\x04 no archive", "t.csv: damaged archive"),
    (zipped(a=TABLE, b=TABLE), "t.csv: an archive of 2 files, expected one"),
]


@pytest.mark.parametrize("data, message", NO_TABLES, ids=range(len(NO_TABLES)))
def test_what_is_no_table(tmp_path, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_csv(tmp_path / "t.csv", ["image_id", "fold"])
    assert "\n" not in str(caught.value)


def test_a_zipped_text(tmp_path):
    (tmp_path / "t.txt").write_bytes(zipped(a="ä"))
    assert read_text(tmp_path / "t.txt") == "ä"


def test_numbers_stay_numbers_and_what_is_blank_is_known(tmp_path):
    (tmp_path / "t.csv").write_text("image_id,patient,fold,x\n1,007,0,NA\n2,,1,.5\n")
    frame = read_csv(tmp_path / "t.csv", ["image_id"])
    assert frame["image_id"].tolist() == ["1", "2"] and frame["patient"][0] == "007"
    assert frame["fold"].tolist() == [0, 1] and frame["patient"].isna().tolist() == [False, True]
    assert frame["x"].isna().tolist() == [True, False]


@pytest.mark.parametrize("dtype", [{"fold": str, "image_id": int, "none": int}, str])
def test_a_type_that_is_asked_for(tmp_path, dtype):
    (tmp_path / "t.csv").write_text("image_id,fold\nNA,01\n")
    assert read_csv(tmp_path / "t.csv", ["image_id"], dtype).values.tolist() == [["NA", "01"]]


def write(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_ids_survive_a_conversion(tmp_path):
    """From train.csv through COCO files, folds and labels to the classifier's table; readers too."""
    boxes = [(i, 3 if n % 2 else 14, reader, *((1, 2, 30, 40) if n % 2 else ("",) * 4))
             for n, i in enumerate(IDS) for reader in ("NA", "007")]
    csv = write(tmp_path / "train.csv", "image_id,class_id,rad_ID,x_min,y_min,x_max,y_max", boxes)
    meta = write(tmp_path / "meta.csv", "image_id,dim0,dim1", [(i, 90, 80) for i in IDS])
    patients = write(tmp_path / "p.csv", "image_id,patient_id", [(i, i) for i in IDS])
    convert("vinbigdata", tmp_path / "out", Conversion(folds=2), annotations=csv, meta=meta,
            patients=patients)
    records, _ = load_coco(tmp_path / "out/instances_readers.json")
    assert sorted(record.image_id for record in records) == sorted(IDS)
    assert {name for record in records for names in record.readers for name in names} == {"NA", "007"}
    assert sorted(read_csv(tmp_path / "out/folds.csv", ["image_id"])["image_id"]) == sorted(IDS)
    table = read_table(tmp_path / "out/labels.csv", "vindr15")
    assert sorted(table.image_ids) == sorted(IDS) and table.groups.tolist() == table.image_ids.tolist()
    assert table.group_kind == "patient" and table.normal.sum() == 6


def test_ids_survive_elsewhere(tmp_path):
    sizes = read_sizes(write(tmp_path / "m.csv", "image_id,width,height", [(i, 9, 8) for i in IDS]))
    assert sizes.index.tolist() == IDS
    path = write(tmp_path / "p.csv", "image_id,p_abnormal,fold", [(i, .5, n % 2) for n, i in enumerate(IDS)])
    assert list(read_probabilities(path)) == IDS
    assert folds_of(path, IDS, 2) == {i: n % 2 for n, i in enumerate(IDS)}


@pytest.mark.parametrize("fold", ["", "x", "0.5", "inf", "1e300", "9" * 400])
def test_a_fold_that_is_none(tmp_path, fold):
    path = write(tmp_path / "p.csv", "image_id,fold", [("a", 0), ("b", fold), ("c", 1)])
    with pytest.raises(InputError, match="p.csv, row 3: fold .* of image b, expected a whole number"):
        folds_of(path, ["a", "b"], 2)


def test_a_suffix_is_cut_from_a_file_name_only(tmp_path):
    names = ["a.png", "1.2.840.7", "b.JPEG", "x.y"]
    path = write(tmp_path / "l.csv", "image,abnormal", [(name, 1) for name in names])
    assert read_table(path, "abnormal").image_ids.tolist() == ["a", "1.2.840.7", "b", "x.y"]


def test_the_sample_of_a_submission(tool, tmp_path):
    """The ids that a submission must have are texts too."""
    for name in ("sample.csv", "submission.csv"):
        write(tmp_path / name, "image_id,PredictionString", [(i, "14 1 0 0 1 1") for i in IDS])
    result = tool("check_submission.py", tmp_path / "submission.csv", "--sample", tmp_path / "sample.csv")
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_reader_is_read_however_the_column_is_spelled(tmp_path):
    """PhysioNet's tables say rad_ID; taken for a consensus, three readers' boxes would all stand."""
    rows = [("a", 3, f"R{n}", 1, 2, 30, 40) for n in (8, 9, 10)]
    for name in ("rad_ID", "Rad ID", "RadId", "rad_id"):
        path = write(tmp_path / "t.csv", f"image_id,class_id,{name},x_min,y_min,x_max,y_max", rows)
        frame = read_annotations(path)
        assert frame["rad_id"].tolist() == ["R8", "R9", "R10"]
        sizes = pd.DataFrame({"height": 90, "width": 80}, index=["a"])
        assert to_records(frame, sizes)[0].truth.scores.tolist() == [1]
    for name in ("radiologist", "reader_id", "Annotator"):
        path = write(tmp_path / "t.csv", f"image_id,class_id,{name},x_min,y_min,x_max,y_max", rows)
        with pytest.raises(InputError, match=f"column '{name}' seems to name readers, expected it as rad_id"):
            read_annotations(path)


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_rows_are_counted_as_an_editor_does(tmp_path, pack):
    """A quoted value may go over lines."""
    (tmp_path / "t.csv").write_bytes(pack('image_id;fold;note\na;0;"one\ntwo\n"\n;1;"x"\n'))
    with pytest.raises(InputError, match="t.csv, row 5: image_id is empty"):
        read_csv(tmp_path / "t.csv", ["image_id", "fold"])


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.csv.zip", "a.tsv", "a.CSV", "a"])
@pytest.mark.parametrize("kind", ["json", "table"])
def test_annotations_are_known_by_how_they_begin(tmp_path, name, kind):
    record = Record("a", "a.png", 90, 80, Predictions([[1, 2, 30, 40]], [1.0], [3]))
    text = {"json": "\n" + json.dumps(to_coco([record])),
            "table": "image_id,class_id,x_min,y_min,x_max,y_max\na,3,1,2,30,40\n"}[kind]
    if name == "a.tsv" and kind == "table":
        text = text.replace(",", "\t")
    data = {"gz": gzip.compress, "zip": lambda plain: zipped(x=plain)}.get(name.rpartition(".")[2], bytes)(
        text.encode("utf-8-sig"))
    (tmp_path / name).write_bytes(data)
    assert [record.truth.boxes.tolist() for record in read_truth(tmp_path / name)] == [[[1, 2, 30, 40]]]


def test_json_that_is_not_there(tmp_path):
    for name in ("nowhere.json", "nowhere.csv"):
        with pytest.raises(InputError, match=f"{name}: no such file"):
            read_truth(tmp_path / name)
    with pytest.raises(InputError, match="nowhere.json: no such file"):
        load_coco(tmp_path / "nowhere.json")


def test_sizes_check_the_annotations(tmp_path):
    rows = [("a", 3, "R1", 1, 2, 30, 40), ("b", 14, "R1", "", "", "", "")]
    table = write(tmp_path / "t.csv", "image_id,class_id,rad_id,x_min,y_min,x_max,y_max", rows)
    few = write(tmp_path / "few.csv", "image_id,dim0,dim1", [("a", 90, 80)])
    with pytest.raises(InputError, match="t.csv, row 3: image_id b has no size"):
        read_truth(table, few)
    small = write(tmp_path / "small.csv", "image_id,dim0,dim1", [("a", 90, 20), ("b", 9, 9)])
    with pytest.raises(InputError, match="t.csv, row 2: box .* leaves image a of width 20"):
        read_truth(table, small)
    assert read_truth(table, write(tmp_path / "m.csv", "image_id,dim0,dim1", [("a", 90, 80), ("b", 9, 9)]))


def test_folds_of_other_images(tmp_path):
    path = write(tmp_path / "p.csv", "image_id,p_abnormal", [("a", .5), ("b", .5)])
    with pytest.raises(InputError, match="p.csv: has none of the 2 images of .* predictions, the first is x"):
        folds_of(path, ["x", "y"], 5)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_of_folds(seed):
    with pytest.raises(InputError, match=f"--seed {seed}: expected a whole number from 0 to 4294967295"):
        assign_folds(np.zeros((4, 1), np.int64), 2, seed)


@pytest.mark.parametrize("seed", ["-1", str(2**32), "x"])
def test_seeds_are_checked_by_every_tool(seed):
    parser = cli.parser("")
    cli.add_seed(parser)
    assert parser.parse_args(["--seed", str(2**32 - 1)]).seed == 2**32 - 1 and parser.parse_args([]).seed == 0
    with pytest.raises(InputError, match=f"--seed: {seed}: expected a whole number from 0 to 4294967295"):
        parser.parse_args(["--seed", seed])
    tools = [path.read_text() for path in (Path(__file__).parents[1] / "vindr_det/commands").glob("*.py")]
    assert not [text for text in tools if 'add_argument("--seed"' in text]
