"""The line "next: vindr-det ..." at the end of a command: it can be pasted."""

import ast
import contextlib
import io
from dataclasses import replace

import pytest
from conftest import ROOT
from metric_cases import P

from vindr_det import cli
from vindr_det.commands import main_of, names, predict
from vindr_det.imaging.status import FAILED, Status
from vindr_det.prediction import FolderPredictions


def said():
    """(file, the literal words) of each call of ``cli.say_next`` in the commands."""
    for path in sorted((ROOT / "vindr_det/commands").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "cli.say_next":
                yield path.stem, [arg.value for arg in node.args if isinstance(arg, ast.Constant)]


@pytest.mark.parametrize("file, words", said())
def test_each_command_and_option_exists(file, words):
    assert words[0] in names(), file
    command, rest = words[0], [word for word in words[1:] if not word.startswith("-")]
    actions = [word for word in rest if command in ("gate", "convert")][:1]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        main_of(command)([*actions, "--help"])
    for word in words[1:]:
        assert not word.startswith("--") or word in text.getvalue().split(), word


def test_the_commands_that_make_files_say_what_is_next():
    assert {file for file, _ in said()} >= {
        "convert", "convert_tfrecords", "prepare", "phantoms", "plan", "train", "train_classifier", "export",
        "predict", "classify", "fuse", "gate", "tune", "evaluate"}


def test_the_line_is_quoted_for_a_shell(capsys):
    cli.say_next("predict", "--images", "a folder/x", "--limit", 3)
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "next: vindr-det predict --images 'a folder/x' --limit 3\n"


@pytest.mark.parametrize("options, words", [
    ((), "--images in --predictions"), (("--recursive",), "--images in --recursive --predictions"),
    (("--meta", "m.csv"), "--images in --meta m.csv --predictions")])
def test_pictures_are_made_as_the_predictions_were(options, words, capsys):
    """a has a box in a file of unknown size; b has none, and c failed: neither has boxes in any pixels."""
    statuses = [Status("a", "a.png"), Status("b", "b.png"), Status("c", "c.png", FAILED)]
    result = FolderPredictions({"a": P((3, 0.9, 1, 1, 9, 9)), "b": P()}, statuses=statuses,
                               unknown_size=["a", "b", "c"])
    predict._report(predict.parse(["--images", "in", "--out", "s.csv", *options]), result)
    printed = capsys.readouterr()
    assert f"next: vindr-det visualize {words} s.csv" in printed.err
    assert "NOT CHECKED, since 1 image has its boxes in the file's pixels (--meta)" in printed.out
    args = predict.parse(["--images", "in", "--out", "s.csv"])
    predict._report(args, replace(result, unknown_size=["b", "c"]))
    assert "s.csv: 3 images, 1 boxes, checked; 1 were NOT READ" in capsys.readouterr().out
