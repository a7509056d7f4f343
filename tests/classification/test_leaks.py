"""Leaks between tables in the layout of the public course: the report, the remedy and the tool."""

import logging

import numpy as np
import pandas as pd
import pytest
from conftest import one_line

from vindr_det.classification import leaks, splits, train
from vindr_det.classification.config import defaults
from vindr_det.classification.label_table import read_identities, read_table
from vindr_det.classification.splits import read_tables
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import NIH_LABELS

#: Names of the course's tables -> their (image, patient).
COURSE = {
    "train-small.csv": [("00000001_000", 1), ("00000001_001", 1), ("00000002_000", 2), ("00000003_000", 3),
                        ("00000004_000", 4)],
    "valid-small.csv": [("00000002_001", 2), ("00000005_000", 5), ("00000006_000", 6), ("00000003_001", 3)],
    "test.csv": [("00000003_000", 3), ("00000006_001", 6), ("00000007_000", 7)],
}


@pytest.fixture
def course(tmp_path):
    """The course's columns in their order: Image, 14 labels of which the patient stands among, PatientId."""
    columns = ["Image", *sorted(NIH_LABELS)[:11], "PatientId", *sorted(NIH_LABELS)[11:]]
    for name, rows in COURSE.items():
        frame = pd.DataFrame(0, index=range(len(rows)), columns=columns)
        frame["Image"], frame["PatientId"] = [f"{image}.png" for image, _ in rows], [p for _, p in rows]
        frame.loc[::2, "Mass"] = 1
        frame.to_csv(tmp_path / name, index=False)
    return [tmp_path / name for name in COURSE]


def by_hand(first, second):
    """Shared patients and images of two of the course's tables."""
    return tuple(len({row[place] for row in COURSE[first]} & {row[place] for row in COURSE[second]})
                 for place in (1, 0))


def test_the_report_names_all_pairs(course):
    overlaps = leaks.find_overlaps({path.name: read_identities(path) for path in course})
    counts = {(o.first, o.second): (len(o.patients), len(o.images)) for o in overlaps}
    names = list(COURSE)
    assert counts == {(a, b): by_hand(a, b) for a, b in ((names[0], names[1]), (names[0], names[2]),
                                                         (names[1], names[2]))}
    assert counts[names[0], names[2]] == (1, 1)
    text = leaks.report(overlaps)
    assert "2, 3" in text and "00000003_000" in text and len(text.splitlines()) == 5
    assert not leaks.find_overlaps({}) and not leaks.find_overlaps({"a": read_identities(course[0])})


def test_what_is_kept_is_disjoint_and_the_test_whole(course):
    parts = {path.name: read_identities(path) for path in course}
    kept = leaks.kept_rows(parts)
    assert [keep.tolist() for keep in kept.values()] == [
        [True, True, False, False, True], [True, True, False, False], [True, True, True]]
    left = [{patient for (_, patient), stays in zip(COURSE[name], kept[name], strict=True) if stays}
            for name in COURSE]
    assert not left[0] & left[1] and not left[0] & left[2] and not left[1] & left[2]


def test_tables_without_patients_share_images_alone(tmp_path):
    (tmp_path / "a.csv").write_text("image_id,patient\nx,1\ny,2\n")
    (tmp_path / "b.csv").write_text("image_id\ny\nz\n")
    parts = {name: read_identities(tmp_path / f"{name}.csv") for name in "ab"}
    assert str(leaks.find_overlaps(parts)[0]) == "image y is in a and in b"
    assert leaks.kept_rows(parts)["a"].tolist() == [True, False]


@pytest.fixture
def cfg(course, monkeypatch):
    monkeypatch.setattr(splits, "_with_images", lambda table, cfg: table)
    cfg = defaults()
    cfg.DATA.TARGET = "nih14"
    cfg.DATA.LABELS, cfg.DATA.VALIDATION, cfg.DATA.TEST = map(str, course)
    return cfg


def test_the_courses_tables_are_refused_or_dropped_from(cfg, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(InputError) as refused:
        read_tables(cfg)
    assert str(refused.value) == (
        "leak: patient 2 is in DATA.LABELS and in DATA.VALIDATION (3 pairs of parts overlap); DATA.ON_LEAK "
        "drop keeps each in the last table alone; folds must be by patient")
    assert "DATA.VALIDATION  DATA.TEST" in caplog.text
    cfg.DATA.ON_LEAK = "drop"
    tables = read_tables(cfg)
    assert [len(tables.table), len(tables.validation), len(tables.test)] == [3, 2, 3]
    assert tables.dropped == {"DATA.LABELS": 2, "DATA.VALIDATION": 2}
    assert tables.table.group_kind == "patient"
    assert "DATA.VALIDATION: 2 of 4 images dropped" in caplog.text


def test_nothing_is_dropped_between_folds(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "_with_images", lambda table, cfg: table)
    cfg = defaults()
    (tmp_path / "a.csv").write_text("image_id,abnormal,fold,patient\na,1,0,5\nb,0,1,5\n")
    cfg.DATA.LABELS, cfg.DATA.ON_LEAK = str(tmp_path / "a.csv"), "drop"
    with pytest.raises(InputError, match="patient 5 is in fold 0 and in fold 1 .*folds must be by patient"):
        read_tables(cfg)


def test_the_tool(course, tool, main_of, tmp_path, capsys, caplog):
    assert one_line(tool("check_leaks.py", *course)).endswith(
        "(3 pairs of parts overlap); --out DIR writes the tables without them")
    out = tmp_path / "clean"
    assert main_of("check_leaks.py", *course, "--out", out) in (0, None)
    assert [len(pd.read_csv(out / name)) for name in COURSE] == [3, 2, 3]
    assert (out / "test.csv").read_text() == course[2].read_text()
    capsys.readouterr()
    assert main_of("check_leaks.py", *(out / name for name in COURSE)) in (0, None)
    assert capsys.readouterr().out == "no leaks between 3 tables\n"
    with pytest.raises(InputError, match="train-small.csv is one of the tables, expected another"):
        main_of("check_leaks.py", *course, "--out", tmp_path)
    (tmp_path / "x.csv").write_text("Image\nq.png\n")
    with caplog.at_level(logging.WARNING):
        main_of("check_leaks.py", tmp_path / "x.csv", course[2])
    assert "x.csv has no column of patients" in caplog.text
    (tmp_path / "x.json").write_text('{"images": [\n1]}')
    with pytest.raises(InputError, match=r"x.json: is JSON, expected a table \(CSV\)"):
        main_of("check_leaks.py", tmp_path / "x.json", course[2])


def test_a_table_of_fewer_labels(course):
    pd.read_csv(course[0]).drop(columns=["Hernia", "Edema"]).to_csv(course[0], index=False)
    table = read_table(course[0], "Mass, Effusion")
    assert table.names == ("Mass", "Effusion") and np.array_equal(table.targets[:, 0], [1, 0, 1, 0, 1])
    with pytest.raises(InputError, match="train-small.csv: has no column 'Edema', expected a label such as"):
        read_table(course[0], "nih14")


@pytest.mark.parametrize("first, second", [("61.0", "61"), ("6.1e+01", "00000061"), ("6.1E1", "61.")])
def test_patients_written_as_floats_are_the_same(tmp_path, first, second):
    (tmp_path / "a.csv").write_text(f"image_id,patient\nx,{first}\ny,2\n")
    (tmp_path / "b.csv").write_text(f"image_id,PatientId\nz,{second}\nv,3\n")
    parts = {name: read_identities(tmp_path / f"{name}.csv") for name in "ab"}
    assert [str(overlap) for overlap in leaks.find_overlaps(parts)] == ["patient 61 is in a and in b"]
    assert leaks.kept_rows(parts)["a"].tolist() == [False, True]


def test_names_that_are_no_whole_numbers_stay_as_they_are(tmp_path):
    (tmp_path / "a.csv").write_text("image_id,patient\nw,6.5\nx,1e5\ny,1.2.0\nz,p1.0\n")
    assert read_identities(tmp_path / "a.csv").groups.tolist() == ["6.5", "1e5", "1.2.0", "p1.0"]


def test_images_are_the_same_whatever_the_case_and_the_separator(tmp_path):
    (tmp_path / "a.csv").write_text("image_id,patient\nIMG1.PNG,1\ntrain\\b.png,2\nc,3\n")
    (tmp_path / "b.csv").write_text("image_id,patient\nimg1.png,4\nB,5\nd,6\n")
    parts = {name: read_identities(tmp_path / f"{name}.csv") for name in "ab"}
    assert [overlap.images for overlap in leaks.find_overlaps(parts)] == [["IMG1", "train\\b"]]
    assert leaks.kept_rows(parts)["a"].tolist() == [False, False, True]


@pytest.mark.parametrize("second, told", [("p61", True), ("63", False), ("64.0", False)])
def test_patients_that_are_named_otherwise_are_told(tmp_path, caplog, second, told):
    (tmp_path / "a.csv").write_text("image_id,patient\nx,61\n")
    (tmp_path / "b.csv").write_text(f"image_id,patient\ny,{second}\n")
    leaks.warn_of_unknown_patients({name: read_identities(tmp_path / f"{name}.csv") for name in "ab"})
    assert ("a and b name patients otherwise, such as 61 and p61" in caplog.text) == told


@pytest.mark.parametrize("part", ["LABELS", "VALIDATION", "CALIBRATION"])
def test_a_part_that_dropping_empties_is_named(tmp_path, monkeypatch, part):
    monkeypatch.setattr(splits, "_with_images", lambda table, cfg: table)
    cfg = defaults()
    cfg.DATA.ON_LEAK = "drop"
    for place, name in enumerate(("LABELS", "CALIBRATION", "VALIDATION", "TEST")):
        patient = 9 if name in (part, "TEST") else place
        (tmp_path / f"{name}.csv").write_text(
            f"image_id,abnormal,patient\na{place},1,{patient}\nb{place},0,{patient}\n")
        cfg.DATA[name] = str(tmp_path / f"{name}.csv")
    with pytest.raises(InputError, match=f"DATA.ON_LEAK drop: leaves none of the 2 images of DATA.{part}"):
        read_tables(cfg)


def test_a_fold_without_images_to_train_on_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "_with_images", lambda table, cfg: table)
    cfg = defaults()
    (tmp_path / "a.csv").write_text("image_id,abnormal,fold\na,1,0\nb,0,0\n")
    cfg.DATA.LABELS = str(tmp_path / "a.csv")
    parts = splits.split(read_tables(cfg), cfg)
    with pytest.raises(InputError, match="fold 0: it has 0 training images, expected normal and"):
        train._check_folds(parts, None, cfg)
