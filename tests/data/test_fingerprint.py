"""The numbers of a data set that a config follows from, of any label set."""

import json

import numpy as np
import pytest

from vindr_det.data.coco import read_coco, to_coco
from vindr_det.data.fingerprint import (
    IMAGE_SIZES,
    fingerprint_of,
    fingerprint_tables,
    measure_files,
    read_patients,
)
from vindr_det.data.statistics import as_text, describe_records, named_tables
from vindr_det.exceptions import InputError
from vindr_det.files import write_json, write_png
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH_BOXES, LabelSet
from vindr_det.structures.records import Record

OWN = LabelSet("own", ("spot", "line", "blob"))


def record(name, *rows, height=1000, width=500, unknown=(), label_set=OWN):
    """An image with boxes (class, x0, y0, x1, y1)."""
    truth = Predictions(np.array([row[1:] for row in rows], float).reshape(-1, 4), np.ones(len(rows)),
                        np.array([row[0] for row in rows], int), label_set)
    return Record(name, f"{name}.png", height, width, truth, (), unknown)


RECORDS = [
    record("a", (0, 0, 0, 20, 40), (0, 0, 0, 20, 36), (1, 300, 300, 400, 500)),
    record("b", (0, 10, 10, 60, 60), unknown=(2,)),
    record("c", unknown=(1,)),
    record("d"), record("e"),
]


def test_counts_by_hand():
    fingerprint = fingerprint_of(RECORDS, {"a": "p", "b": "p", "c": "q", "d": "r", "e": "r"})
    assert fingerprint.label_set == OWN and fingerprint.patients == 3
    assert fingerprint.images_with.tolist() == [2, 1, 0]
    assert fingerprint.unknown.sum(axis=0).tolist() == [0, 1, 1]
    assert fingerprint.normal.tolist() == [False, False, False, True, True]
    assert fingerprint.overlapping == 1  # IoU of a's first two boxes is .9
    assert fingerprint.too_few() == {"spot": 2, "line": 1, "blob": 0}
    # 1000 px to 500: halves; the shorter sides are 10, 10, 50 and 25.
    assert fingerprint.sides_at(500).tolist() == [[20, 10], [18, 10], [100, 50], [25, 25]]
    assert fingerprint.sides_at(500, False)[0].tolist() == [20, 20]
    assert [fingerprint.tiny_at(size) for size in (200, 500, 800)] == [0.75, 0.5, 0]


def test_three_boxes_of_the_same_finding_repeat_it_twice():
    boxes = [(0, 0, 0, 100, 100 + at) for at in range(3)]
    assert fingerprint_of([record("a", *boxes), record("b", *boxes[:1])]).overlapping == 2
    assert fingerprint_of([record("a", (0, 0, 0, 9, 9), (1, 0, 0, 9, 9))]).overlapping == 0


def test_no_image_and_no_box():
    empty = fingerprint_of([])
    assert empty.shapes.shape == (0, 2) and empty.tiny_at(512) == 0 and empty.overlapping == 0
    assert [name for name, _, _ in fingerprint_tables(fingerprint_of([record("a")]))] == ["fingerprint"]
    with pytest.raises(InputError, match=r"x.json: holds no image to describe"):
        describe_records([], what="x.json")


def test_tables_of_a_set_of_its_own():
    overview = describe_records(RECORDS)
    tables = {name: table for name, _, table in named_tables(overview)}
    assert set(tables) == {"classes", "boxes_per_image", "sizes", "co_occurrence", "fingerprint",
                           "class_sizes", "image_sizes"}
    classes = tables["classes"].to_dict("list")
    assert classes == {"images": [2, 1, 0], "boxes": [3, 1, 0], "unknown": [0, 1, 1]}
    assert tables["fingerprint"]["count"].tolist() == [5, 2, 2, 2, 1, 4, 1]
    assert tables["image_sizes"].index.tolist() == list(IMAGE_SIZES)
    assert tables["image_sizes"].loc[320, "percent under 16 px"] == 50  # 6.4, 6.4, 32 and 16
    assert tables["co_occurrence"].loc["spot", "line"] == 0.5
    assert all(as_text(table) for table in tables.values())


def test_co_occurrence_leaves_out_images_where_the_other_finding_is_unknown():
    """Of three images with spots a line is on the first, unknown on the second, and not on the third."""
    records = [record("a", (0, 0, 0, 9, 9), (1, 0, 0, 9, 9)), record("b", (0, 0, 0, 9, 9), unknown=(1,)),
               record("c", (0, 0, 0, 9, 9))]
    table = describe_records(records).co_occurrence
    assert table.loc["spot", ["spot", "line", "blob"]].tolist() == [1, 0.5, 0]
    assert table.loc["line", "spot"] == 1


def test_patients_and_two_label_sets(tmp_path):
    data = to_coco(RECORDS)
    for image, owner in zip(data["images"], (7, 7, "q", None, "r"), strict=True):
        image["patient_id" if owner == "q" else "patient"] = owner
    write_json(tmp_path / "own.json", data)
    assert read_patients(tmp_path / "own.json") == {"a": "7", "b": "7", "c": "q", "e": "r"}
    write_json(tmp_path / "plain.json", to_coco(RECORDS))
    assert read_patients(tmp_path / "plain.json") == {}
    for header, suffix in (("image", ".png"), ("image_id", "")):
        (tmp_path / "labels.csv").write_text(f"{header},patient\na{suffix},07\nb{suffix},07\nz,8\n")
        assert read_patients(tmp_path / "plain.json") == {"a": "07", "b": "07"}
    (tmp_path / "labels.csv").write_text("image_id,fold\na,0\n")
    assert read_patients(tmp_path / "plain.json") == {}
    with pytest.raises(InputError, match="label sets own and NIH boxes"):
        fingerprint_of([*RECORDS, record("n", label_set=NIH_BOXES)])


def test_files_of_others(tmp_path):
    for name, shape in (("a", (400, 200)), ("b", (399, 200)), ("c", (400, 199))):
        write_png(tmp_path / f"{name}.png", np.zeros(shape, np.uint8))
    files = measure_files(RECORDS[:3], tmp_path)
    assert files.longest == 400 and not files.distorted
    write_png(tmp_path / "b.png", np.zeros((300, 300), np.uint8))
    assert measure_files(RECORDS[:3], tmp_path).distorted
    (tmp_path / "a.png").write_bytes(b"DICM")
    assert measure_files(RECORDS[:1], tmp_path) is None
    with pytest.raises(InputError, match=r"d.png: no such image, but x.json names it"):
        measure_files(RECORDS, tmp_path, "x.json")


@pytest.mark.parametrize("options, message", [
    (["--meta", "m.csv"], "--meta: is for tables, but .* is a COCO file"),
    (["--ids", "a"], "--ids: is for tables"), (["--images", "nowhere"], "a.png: no such image"),
])
def test_faulty_options_of_the_tool(tmp_path, main_of, options, message):
    write_json(tmp_path / "own.json", to_coco(RECORDS))
    with pytest.raises(InputError, match=message):
        main_of("describe.py", "--annotations", tmp_path / "own.json", "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_the_tool_on_a_coco_file(tmp_path, main_of, capsys):
    """The advice is printed and written; an image set without boxes gets the tables alone."""
    write_json(tmp_path / "own.json", to_coco(RECORDS))
    main_of("describe.py", "--annotations", tmp_path / "own.json", "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "A config for it" in printed and "IMAGE_SIZE: " in printed
    assert "# on fewer than 10 images: spot (2), line (1), blob (0). Their AP" in printed
    assert "4 plots and 8 tables" in printed
    assert (tmp_path / "out/config.csv").read_text().startswith("key,value,reason\nVINDR.IMAGE_SIZE,")
    write_json(tmp_path / "own.json", to_coco(RECORDS[2:], OWN))
    main_of("describe.py", "--annotations", tmp_path / "own.json", "--out", tmp_path / "none")
    assert "A config" not in capsys.readouterr().out and not (tmp_path / "none/config.csv").exists()


def test_nih_boxes(data, tmp_path):
    """Counted again from the two tables themselves."""
    import pandas as pd

    images = pd.read_csv(data / "nih_boxes/images.csv")
    boxes = pd.read_csv(data / "nih_boxes/boxes.csv")
    boxes = boxes.set_axis(["image", "name", *boxes.columns[2:]], axis=1)
    boxes["label"] = [NIH_BOXES.id_of(name.replace("Infiltrate", "Infiltration")) for name in boxes["name"]]
    grouped = dict(iter(boxes.groupby("image")))
    records = [record(name, *(grouped[name][["label", "x_min", "y_min", "x_max", "y_max"]].to_numpy()
                              if name in grouped else ()), height=1024, width=1024, label_set=NIH_BOXES)
               for name in images["image"]]
    write_json(tmp_path / "n.json", to_coco(records))
    fingerprint = fingerprint_of(read_coco(tmp_path / "n.json"))
    assert fingerprint.images_with.sum() == len(boxes.drop_duplicates(["image", "label"]))
    shorter = boxes[["x_max", "y_max"]].to_numpy() - boxes[["x_min", "y_min"]].to_numpy()
    assert fingerprint.tiny_at(256) == pytest.approx((shorter.min(axis=1) / 4 < 16).mean(), abs=0.003)
    assert json.loads((tmp_path / "n.json").read_text())["info"]["label_set"] == "NIH boxes"
