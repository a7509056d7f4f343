"""Thousands of damaged submissions: what was planted is found in its row, and nothing ends in a traceback."""

import numpy as np
import pandas as pd
import pytest
from conftest import one_line

from vindr_det.errors import InputError
from vindr_det.submission import mend, parse_submission

IDS = [f"i{n}" for n in range(12)]
SIZES = pd.DataFrame({"height": 2000, "width": 1500}, index=IDS)


def good_rows(rng):
    rows = [["image_id", "PredictionString"]]
    for image_id in IDS:
        groups = []
        for _ in range(rng.integers(0, 5)):
            x, y = rng.uniform(0, 1000, 2).round(1)
            groups.append(f"{rng.integers(0, 14)} {rng.random():.4f} {x} {y} {x + 321.5} {y + 456.5}")
        groups.append(f"14 {rng.random():.4f} 0 0 1 1")
        rows.append([image_id, " ".join(groups)])
    return rows


def put(field, token):
    """Replace one value of the first group."""
    def change(rows, at, rng):
        tokens = rows[at][1].split()
        tokens[field] = token
        rows[at][1] = " ".join(tokens)
        return at + 1
    return change


def add(group):
    def change(rows, at, rng):
        rows[at][1] += f" {group}"
        return at + 1
    return change


def drop_value(rows, at, rng):
    tokens = rows[at][1].split()
    del tokens[rng.integers(len(tokens))]
    rows[at][1] = " ".join(tokens)
    return at + 1


def third_column(rows, at, rng):
    rows[at].append("x")
    return at + 1


def no_column(rows, at, rng):
    rows[at].pop()
    return at + 1


def empty(rows, at, rng):
    rows[at][1] = " " * int(rng.integers(0, 3))
    return at + 1


def stranger(rows, at, rng):
    rows[at][0] = "nobody"
    return at + 1


def again(rows, at, rng):
    rows.append([rows[at][0], "14 0.5 0 0 1 1"])
    return len(rows)


def missing(rows, at, rng):
    del rows[at]
    return 0


def header(rows, at, rng):
    rows[0] = [["ID", "TARGET"], ["PredictionString", "image_id"], ["image_id"]][rng.integers(3)]
    return 1


#: what is planted -> (the damage, a word of the message)
FAULTS = {
    "word": (put(1, "high"), "not six numbers"), "empty number": (put(0, "-"), "not six numbers"),
    "nan": (put(1, "nan"), "not finite"), "inf": (put(4, "inf"), "not finite"),
    "class 15": (put(0, "15"), "unknown class"), "class -1": (put(0, "-1"), "unknown class"),
    "class 2.5": (put(0, "2.5"), "unknown class"), "score above 1": (put(1, "1.0001"), "score"),
    "score below 0": (put(1, "-0.1"), "score"), "crossed": (add("3 0.5 500 100 400 200"), "x_min < x_max"),
    "no width": (add("3 0.5 500 100 500 200"), "x_min < x_max"),
    "beyond": (add("3 0.5 1000 100 1501 200"), "leaves image"),
    "before": (add("3 0.5 -4 100 900 200"), "leaves image"),
    "class 14 elsewhere": (add("14 0.5 0 0 2 2"), "class 14"), "value dropped": (drop_value, "groups of six"),
    "third column": (third_column, "columns"), "one column": (no_column, "columns"),
    "empty": (empty, "empty PredictionString"), "stranger": (stranger, "not in the sample"),
    "second row": (again, "second row"), "missing row": (missing, "have no row"),
    "header": (header, "header"),
}
CERTAIN = {"beyond", "before", "class 14 elsewhere", "empty", "header"}


def write(path, rows):
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return path


def test_a_good_file_is_good(tmp_path):
    for seed in range(20):
        path = write(tmp_path / "s.csv", good_rows(np.random.default_rng(seed)))
        assert not parse_submission(path, IDS, SIZES).faults


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_planted_is_found_in_its_row(tmp_path, name):
    """91 files each, 2,002 in all; what is certain is mended, what is not is left alone."""
    damage, words = FAULTS[name]
    for seed in range(91):
        rng = np.random.default_rng([seed, len(name)])
        rows = good_rows(rng)
        row = damage(rows, int(rng.integers(1, len(IDS) + 1)), rng)
        path = write(tmp_path / "s.csv", rows)
        errors = [f for f in parse_submission(path, IDS, SIZES).faults if f.error]
        assert any(f.row == row and words in f.message for f in errors), (seed, row, errors)
        mended = mend(path, IDS, SIZES)
        assert bool([f for f in mended.left.faults if f.error]) == (name not in CERTAIN), (seed, mended)
        assert mended.changes or name not in CERTAIN


def test_any_bytes_at_all(tmp_path):
    """A thousand files with bytes changed, cut and doubled: a verdict or one line."""
    rng = np.random.default_rng(0)
    path = tmp_path / "s.csv"
    for _ in range(1000):
        content = bytearray(write(path, good_rows(rng)).read_bytes())
        for _ in range(rng.integers(1, 8)):
            at = int(rng.integers(len(content)))
            kind = rng.integers(3)
            if kind == 0:
                content[at] = int(rng.integers(256))
            elif kind == 1:
                del content[at:at + int(rng.integers(1, 40))]
            else:
                content[at:at] = rng.choice([b'"', b",", b"\n", b"\0", b"1e999", b"\xff\xfe", b"\r"])
        path.write_bytes(bytes(content))
        for work in (parse_submission, mend):
            try:
                work(path, IDS, SIZES)
            except InputError as error:
                assert "\n" not in str(error).strip()


def test_mending_by_hand(tmp_path, tool):
    sample, meta = tmp_path / "sample.csv", tmp_path / "meta.csv"
    sample.write_text("image_id,PredictionString\na,x\nb,x\nc,x\n")
    meta.write_text("image_id,dim0,dim1\na,100,50\nb,100,50\nc,100,50\n")
    given = tmp_path / "s.csv"
    twice = "b,3 0.5 -2 10 30 40 3 0.9 -2 10 30 40\n"
    given.write_text(f"ID,TARGET\n{twice}a,\n{twice}"
                     "c,4 0.5 60 10 70 40 14 0.3 0 0 5 5")
    options = [given, "--sample", sample, "--meta", meta]
    assert "errors, expected none" in one_line(tool("check_submission.py", *options))
    run = tool("check_submission.py", *options, "--fix", tmp_path / "new.csv")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "new.csv").read_text() == (
        "image_id,PredictionString\na,14 1 0 0 1 1\nb,3 0.9 0 10 30 40\nc,14 0.3 0 0 1 1\n")
    for words in ("changed: row 1: header", "changed: row 3: an empty string", "row 4: the same row again",
                  "row 2: 1 boxes stand twice", "row 2: 1 boxes are cut", "row 5: 1 boxes wholly outside",
                  "changed: rows stand in the sample's order", "changed: a newline at the end"):
        assert words in run.stdout, (words, run.stdout)
    given.write_text("image_id,PredictionString\na,3 0.5 1 1 2\nb,14 1 0 0 1 1\nc,14 1 0 0 1 1\n")
    assert "not written" in one_line(tool("check_submission.py", *options, "--fix", tmp_path / "no.csv"))
    assert not (tmp_path / "no.csv").exists()
