"""Thousands of damaged submissions: each issue is reported in its row, and nothing ends in a traceback."""

import gzip

import numpy as np
import pandas as pd
import pytest
from conftest import one_line

from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.submission import parse_submission, read_submission, repair_submission
from vindr_det.submission.parse import parse_string, plain_predictions

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


def unknown_id(rows, at, rng):
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


def put_class(token):
    """A class id on a box of its own."""
    return add(f"{token} 0.5 10 10 500 500")


def between(blank):
    def change(rows, at, rng):
        rows[at][1] = rows[at][1].replace(" ", blank, int(rng.integers(1, 3)))
        return at + 1
    return change


def blank_line(rows, at, rng):
    rows.insert(at, [" " * int(rng.integers(0, 3))])
    return at + 1


def header_again(rows, at, rng):
    rows.insert(at, list(rows[0]))
    return at + 1


def spaced_id(rows, at, rng):
    rows[at][0] = [f" {rows[at][0]}", f"{rows[at][0]} ", f"{rows[at][0]}\t"][rng.integers(3)]
    return at + 1


def no_id(rows, at, rng):
    rows[at][0] = ""
    return at + 1


#: name -> (the damage, a part of the message)
DAMAGES = {
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
    "empty": (empty, "empty PredictionString"), "unknown id": (unknown_id, "not in the sample"),
    "second row": (again, "second row"), "missing row": (missing, "have no row"),
    "header": (header, "header"), "header again": (header_again, "the header again"),
    "grouped digits": (put(2, "1_00"), "not six numbers: '1_00'"), "plus": (put(1, "+1"), "not six numbers"),
    "full-width digits": (put(2, "\uff11\uff10"), "not six numbers"),
    "arabic digits": (put(2, "\u0661"), "not six numbers"), "overflow": (put(2, "1e999"), "not finite"),
    "comma": (put(1, "0;5"), "not six numbers"), "hex": (put(2, "0x1p3"), "not six numbers"),
    "class 3.0": (put_class("3.0"), "class id '3.0'"), "class -0": (put_class("-0"), "class id '-0'"),
    "class 03": (put_class("03"), "class id '03'"), "class 1e0": (put_class("1e0"), "class id '1e0'"),
    "class +1": (put_class("+1"), "not six numbers"),
    "tab": (between("\t"), "between values"), "no-break space": (between("\xa0"), "between values"),
    "line break": (between("\u2028"), "between values"), "blank line": (blank_line, "empty line"),
    "blanks around the id": (spaced_id, "without blanks"), "no id": (no_id, "without blanks"),
}
CERTAIN = {"beyond", "before", "class 14 elsewhere", "empty", "header", "header again", "blank line",
           "class 3.0", "class -0", "class 03", "class 1e0", "tab", "no-break space", "line break",
           "blanks around the id"}


def write(path, rows):
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def errors_of(parsed):
    return [issue for issue in parsed.issues if issue.error]


def test_a_good_file_is_good(tmp_path):
    for seed in range(20):
        path = write(tmp_path / "s.csv", good_rows(np.random.default_rng(seed)))
        assert not parse_submission(path, IDS, SIZES).issues


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_reported_in_its_row(tmp_path, name):
    """91 files each, 3,731 in all; what is certain is repaired, anything else is unchanged."""
    damage, message = DAMAGES[name]
    for seed in range(91):
        rng = np.random.default_rng([seed, len(name)])
        rows = good_rows(rng)
        row = damage(rows, int(rng.integers(1, len(IDS) + 1)), rng)
        path = write(tmp_path / "s.csv", rows)
        errors = errors_of(parse_submission(path, IDS, SIZES))
        assert any(issue.row == row and message in issue.message for issue in errors), (seed, row, errors)
        repaired = repair_submission(path, IDS, SIZES)
        assert bool(errors_of(repaired.left)) == (name not in CERTAIN), (seed, repaired)
        assert repaired.changes or name not in CERTAIN
        assert name in CERTAIN or row in {issue.row for issue in errors_of(repaired.left)}, (seed, repaired)


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
                content[at:at] = rng.choice([b'"', b",", b"\n", b"\0", b"1e999", b"\xff\xfe", b"\r", b"\n\n",
                                             b"\xef\xbb\xbf", b"\xc2\xa0", b"\t", b"1_0", b"\xef\xbc\x91"])
        path.write_bytes(bytes(content))
        try:
            parse_submission(path, IDS, SIZES)
            repaired = repair_submission(path, IDS, SIZES)
        except InputError as error:
            assert "\n" not in str(error).strip()
            continue
        if not any(issue.error for issue in repaired.left.issues):  # then the new file is good
            write_text(path, repaired.text)
            parsed = parse_submission(path, IDS, SIZES)
            assert not errors_of(parsed), (content, parsed.issues)
            assert parsed.predictions.keys() == repaired.left.predictions.keys()


def test_a_repair_by_hand(tmp_path, tool):
    sample, meta = tmp_path / "sample.csv", tmp_path / "meta.csv"
    sample.write_text("image_id,PredictionString\na,x\nb,x\nc,x\n")
    meta.write_text("image_id,dim0,dim1\na,100,50\nb,100,50\nc,100,50\n")
    given = tmp_path / "s.csv"
    twice = "b,3 0.5 -2 10 30 40 3 0.9 -2 10 30 40\n"
    given.write_text(f"ID,TARGET\n{twice}a,\n{twice}"
                     "c,4 0.5 60 10 70 40 4 0.4 6 10 7 40 14 0.3 0 0 5 5")
    options = [given, "--sample", sample, "--meta", meta]
    assert "errors, expected none" in one_line(tool("check_submission.py", *options))
    run = tool("check_submission.py", *options, "--fix", tmp_path / "new.csv")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "new.csv").read_text() == (
        "image_id,PredictionString\na,14 1 0 0 1 1\nb,3 0.9 0 10 30 40\nc,4 0.4 6 10 7 40 14 0.3 0 0 1 1\n")
    for message in ("changed: row 1: header", "changed: row 3: an empty string", "row 4: a repeated row",
                    "row 2: 1 boxes are repeated", "row 2: 2 boxes are clipped",
                    "row 5: 1 boxes wholly outside", "changed: rows are put in the sample's order",
                    "changed: a newline at the end"):
        assert message in run.stdout, (message, run.stdout)
    given.write_text("image_id,PredictionString\na,3 0.5 1 1 2\nb,14 1 0 0 1 1\nc,14 1 0 0 1 1\n")
    assert "not written" in one_line(tool("check_submission.py", *options, "--fix", tmp_path / "no.csv"))
    assert not (tmp_path / "no.csv").exists()
    # Row 3 of the file that was given, though the sample would put it second without the empty line.
    given.write_text("image_id,PredictionString\n\na,3 0.5 1 1 2\nc,14 1 0 0 1 1\nb,14 1 0 0 1 1\n")
    run = tool("check_submission.py", *options, "--fix", tmp_path / "no.csv")
    assert "error: row 3: 5 values" in run.stdout and "changed: row 2: an empty line" in run.stdout
    line = one_line(run)
    assert f"{given}: 1 errors that cannot be repaired; {tmp_path / 'no.csv'} is not written" in line


def repaired_twice(tmp_path, text, sizes=SIZES):
    """The repair of a file, and the repair of the repaired file."""
    path = tmp_path / "s.csv"
    path.write_text(text)
    first = repair_submission(path, sizes=sizes)
    path.write_text(first.text)
    return first, repair_submission(path, sizes=sizes)


@pytest.mark.parametrize("row", ["3 0.9 500 500 600 600", "3 0.9 500 500 600 600 14 0.3 0 0 1 1",
                                 "3 0.9 -9 -9 -1 -1 4 0.5 900 900 999 999"])
def test_an_image_whose_boxes_all_lie_outside_does_not_become_normal(tmp_path, row):
    sizes = pd.DataFrame({"height": [100], "width": [100]}, index=["a"])
    first, _ = repaired_twice(tmp_path, f"image_id,PredictionString\na,{row}\n", sizes)
    assert f"a,{row}\n" in first.text and not first.changes
    assert any("leaves image a" in issue.message for issue in first.left.issues if issue.error)


def test_boxes_of_larger_images_are_an_error_and_not_clipped(tmp_path):
    ids = [f"i{n}" for n in range(40)]
    sizes = pd.DataFrame({"height": 100, "width": 100}, index=ids)
    boxes = np.random.default_rng(0).uniform(20, 90, (40, 2))
    for factor, larger in ((1, False), (1.5, True), (2, True)):
        rows = "".join(f"{i},3 0.5 {x * factor - 9:g} {y * factor - 9:g} {x * factor:g} {y * factor:g}\n"
                       for i, (x, y) in zip(ids, boxes, strict=True))
        first, _ = repaired_twice(tmp_path, f"image_id,PredictionString\n{rows}", sizes)
        assert any("larger images" in issue.message for issue in first.left.issues if issue.error) == larger
        assert not first.changes


def test_an_empty_string_is_counted_as_a_guess(tmp_path, tool):
    path = tmp_path / "s.csv"
    path.write_text("image_id,PredictionString\na,\nb, \nc,3 0.5 1 2 3 4\n")
    run = tool("check_submission.py", path, "--fix", tmp_path / "new.csv")
    assert run.stdout.startswith('note: 2 images with an empty string became "no finding", the first is a')
    assert run.stdout.endswith("ok: 3 images, 1 boxes, 2 images with an empty string became no finding\n")


@pytest.mark.parametrize("row", [
    "14 1 0 0 5 5 14 .3 0 0 1 1 3 .5 -20 1 20 20 3 .4 -30 1 20 20", "3 .5 1 1 500 20 3 .4 1 1 400 20"])
def test_a_repaired_file_needs_no_repair(tmp_path, row):
    sizes = pd.DataFrame({"height": [100], "width": [100]}, index=["a"])
    first, second = repaired_twice(tmp_path, f"image_id,PredictionString\na,{row}\n", sizes)
    assert not second.changes and second.text == first.text
    assert not any("repeated" in issue.message for issue in first.left.issues)


@pytest.mark.parametrize("first, images", [
    ("b,\n", ["b", "c"]), ("b\n", ["c"]), ("ID,\n", ["c"]), ("ID,TARGET\n", ["c"]), ("image_id\n", ["c"])])
def test_a_first_row_without_a_string_is_an_image(tmp_path, first, images):
    """Of a file without a header; ``b`` alone stays an error."""
    repaired, _ = repaired_twice(tmp_path, f"{first}c,14 1 0 0 1 1\n", None)
    assert list(repaired.left.predictions) == images
    assert any(issue.error for issue in repaired.left.issues) == (first == "b\n")


GOOD = "image_id,PredictionString\na,14 1 0 0 1 1\nb,3 0.5 1 2 30 40\n"


@pytest.mark.parametrize("name, content, errors, notes", [
    ("s.csv", GOOD.encode(), [], []), ("s.csv.gz", gzip.compress(GOOD.encode(), mtime=0), [], []),
    ("s.csv", gzip.compress(GOOD.encode(), mtime=0), ["holds gzip data, expected plain text"], []),
    ("s.csv.gz", GOOD.encode(), ["holds plain text, expected gzip data"], []),
    ("s.csv", b"\xef\xbb\xbf" + GOOD.encode(), [], ["byte order mark"]),
    ("s.csv", GOOD.replace("\n", "\r\n").encode(), [], ["carriage return and a newline"]),
    ("s.csv", GOOD.replace("\n", "\r").encode(), ["without a newline"], ["no newline at the end"]),
    ("s.csv", GOOD.encode() + b"\n", ["row 4: an empty line"], []),
    ("s.csv", GOOD.encode() + b"\n\n  \n", ["row 4: an empty", "row 5: an empty", "row 6: an empty"], []),
    ("s.csv", b"\n" + GOOD.encode(), ["row 1: header ''", "row 2: the header again"], []),
    ("s.csv", GOOD.replace("a,14 1 0 0 1 1", '"a","14 1 0 0 1 1"').encode(), [], []),
    ("s.csv", GOOD.replace("14 1 0 0 1 1", '"14 1 0\n0 1 1"').encode(), ["row 2: '\\n' between"], []),
    ("s.csv", GOOD.encode() + GOOD.encode()[:26], ["row 4: the header again"], []),
    ("s.csv", GOOD.replace("14 1 0 0 1 1", "14 1 0 0 1 1 ").encode(), [], []),  # Kaggle takes these
    ("s.csv", GOOD.replace("0.5", "5e-01").encode(), [], []),  # our own writer's small scores
])
def test_a_file_is_good_or_repaired(tmp_path, name, content, errors, notes):
    path, new = tmp_path / name, tmp_path / f"new_{name}"
    path.write_bytes(content)
    issues = parse_submission(path, ["a", "b"]).issues
    for error, expected in ((True, errors), (False, notes)):
        messages = [str(issue) for issue in issues if issue.error == error]
        assert len(messages) == len(expected), issues
        assert all(part in message for message, part in zip(messages, expected, strict=True)), issues
    repaired = repair_submission(path, ["a", "b"])
    assert repaired.text == GOOD.replace("0.5", "5e-01") if b"5e-01" in content else repaired.text == GOOD
    write_text(new, repaired.text)
    assert not parse_submission(new, ["a", "b"]).issues


def test_rows_behind_a_quoted_line_break_are_lines_of_the_file(tmp_path):
    (tmp_path / "s.csv").write_text(GOOD.replace("14 1 0 0 1 1", '"14 1 0\n0 1 1"') + "c,nan\n")
    rows = [issue.row for issue in parse_submission(tmp_path / "s.csv").issues]
    assert rows == [2, 5]


@pytest.mark.parametrize("first", ["a,\uff11 \uff12", "a,nan", "a,+1", "a,1_0"])
def test_a_row_of_odd_numbers_is_no_header(tmp_path, first):
    (tmp_path / "s.csv").write_text(f"{first}\nb,14 1 0 0 1 1\n", encoding="utf-8")
    repaired = repair_submission(tmp_path / "s.csv")
    assert [issue.row for issue in errors_of(repaired.left)] == [1] and repaired.text.count("\n") == 3


def test_an_id_over_two_lines_is_an_error(tmp_path):
    (tmp_path / "s.csv").write_text(GOOD.replace("b,", '"b\nc",'))
    for parsed in (parse_submission(tmp_path / "s.csv"), repair_submission(tmp_path / "s.csv").left):
        assert [issue.row for issue in parsed.issues if "control characters" in issue.message] == [3]


def test_a_file_that_is_not_text_is_one_line(tmp_path):
    (tmp_path / "s.csv").write_bytes(GOOD.replace("0.5", "0\0005").encode())
    with pytest.raises(InputError, match="s.csv, row 3: a NUL byte, expected text"):
        parse_submission(tmp_path / "s.csv")
    (tmp_path / "s.csv").write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(InputError, match="not a text file"):
        parse_submission(tmp_path / "s.csv")


def test_labels_of_ensemble_boxes_are_read(tmp_path, caplog):
    """Its labels are float64, and find their way into files."""
    (tmp_path / "s.csv").write_text(GOOD.replace("b,3 ", "b,3.0 "))
    assert read_submission(tmp_path / "s.csv")["b"].labels.tolist() == [3]
    assert "class id '3.0' becomes '3'" in caplog.text


TOKENS = ["0", "3", "14", "15", "-0", "3.0", "1", "0.5", ".5", "5.", "-.5", "+1", "1e-3", "1E+2", "1e5",
          "1e400", "nan", "1_0", "--1", "-", ".", "e5", "0x1", "\uff11", "1.5e", "-1", "100", "100.0"]


def test_texts_parsed_together_are_those_parsed_by_themselves():
    rng = np.random.default_rng(0)
    texts = [text for _ in range(150) for _, text in good_rows(rng)[1:]]
    for number in range(0, len(texts), 2):
        tokens = texts[number].split(" ")
        for _ in range(rng.integers(1, 3)):
            tokens[rng.integers(len(tokens))] = str(rng.choice(TOKENS))
        texts[number] = str(rng.choice([" ", " ", " ", "  ", "\t", "\xa0"])).join(tokens)
    texts += ["", " ", "14 1 0 0 1 1", "14 1 0 0 1 1 3 0.5 1 2 3 4", "3 .5 1 2 3 4 3 .6 1 2 3 4.0",
              "3 .5 -0 2 3 4 3 .6 0 2 3 4", " 3 .5 1 2 3 4 ", "+3 .5 1 2 3 4", texts[1] + " " + texts[1]]
    for text, together in zip(texts, plain := plain_predictions(texts), strict=True):
        issues = []
        alone = parse_string(2, text, issues)
        assert (together is None) == bool(issues), text
        for name in ("boxes", "scores", "labels") if together is not None else ():
            ours, theirs = getattr(together, name), getattr(alone, name)
            assert ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes(), text
    assert 500 < sum(of is None for of in plain) < 1300
    assert plain_predictions([]) == []
