"""The line "next: vindr-det ..." at the end of a command: it can be pasted."""

import ast
import contextlib
import io
import json
import re
import shlex
from dataclasses import replace

import pytest
import yaml
from conftest import ROOT

from vindr_det import cli
from vindr_det.commands import main_of, names, predict
from vindr_det.commands.convert import _say_next
from vindr_det.imaging.status import FAILED, Status
from vindr_det.prediction_files import Written
from vindr_det.structures.label_sets import VINBIGDATA


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
        "predict", "classify", "fuse", "gate", "tune", "evaluate", "bundle", "demo", "describe",
        "fit_anchors"}


def test_the_line_is_quoted_for_a_shell(capsys):
    cli.say_next("predict", "--images", "a folder/x", "--limit", 3)
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "next: vindr-det predict --images 'a folder/x' --limit 3\n"


def next_of(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ")]
    return [shlex.split(line)[2:] for line in lines]


def prepare(root, part):
    main_of("prepare")(["--images", f"{root}/RAW/{part}", "--out", f"{root}/data/{part}", "--size", "64"])


def test_from_images_to_a_plan_with_what_was_printed(phantoms, tmp_path, capsys):
    """Each command is the one that the command before it printed."""
    (tmp_path / "RAW").mkdir()
    for path in (phantoms / "raw").iterdir():
        (tmp_path / "RAW" / path.name).symlink_to(path)
    prepare(tmp_path, "train")
    convert, = next_of(capsys)
    assert convert[convert.index("--annotations") + 1] == f"{tmp_path}/RAW/train.csv"
    main_of(convert[0])([*convert[1:], "--folds", "3"])
    plan, = next_of(capsys)
    main_of(plan[0])(plan[1:])
    train, = next_of(capsys)
    sets = yaml.safe_load((tmp_path / "data/annotations/planned.yaml").read_text())["DATASETS"]
    assert train == ["train", "--config", f"{tmp_path}/data/annotations/planned.yaml"]
    assert sets == {"TRAIN": ["vindr_train_fold0"], "TEST": ["vindr_val_fold0"]}
    prepare(tmp_path, "test")
    assert next_of(capsys) == [[
        "predict", "--weights", "MODEL.pth", "--images", f"{tmp_path}/data/test", "--meta",
        f"{tmp_path}/data/test/meta.csv", "--out", "submission.csv"]]


@pytest.mark.parametrize("files, images, expected", [
    ([], None, []), (["labels.csv"], "images", ["train-classifier"]),
    (["all", "labels.csv"], "images", ["plan", "all"]),
    (["all", "labels.csv"], "/elsewhere", ["plan", "all", "/elsewhere"]),
    (["train", "test"], None, ["plan", "train"]), (["train", "val", "test"], None, ["plan", "train", "val"]),
    (["train", "test", "train_fold0", "val_fold0"], None, ["plan", "train_fold0", "val_fold0"])])
def test_a_conversion_names_the_files_that_it_wrote(tmp_path, capsys, files, images, expected):
    out = tmp_path / "annotations"
    out.mkdir()
    for name in files:
        (out / (name if "." in name else f"instances_{name}.json")).touch()
    _say_next(out, images and str(tmp_path / images), tmp_path / "images")
    words = [word for line in next_of(capsys) for word in line]
    named = [re.sub(r".*instances_(.*).json", r"\1", words[words.index(option) + 1])
             for option in ("--annotations", "--val", "--images") if option in words]
    assert words[:1] + named == expected


def test_no_plan_is_asked_for_where_no_config_finds_the_files(tmp_path, capsys):
    for name in ("instances_all.json", "labels.csv"):
        (tmp_path / name).touch()
    _say_next(tmp_path, None, tmp_path)
    assert next_of(capsys)[0][0] == "train-classifier"


@pytest.mark.parametrize("options, words", [
    ((), "--images in --predictions"), (("--recursive",), "--images in --recursive --predictions"),
    (("--meta", "m.csv"), "--images in --meta m.csv --predictions")])
def test_pictures_are_made_as_the_predictions_were(options, words, capsys):
    """a has a box in a file of unknown size; b has none, and c failed: neither has boxes in any pixels."""
    written = Written(VINBIGDATA, [Status("a", "a.png"), Status("b", "b.png"), Status("c", "c.png", FAILED)],
                      boxes=1, in_file_pixels=1)
    predict._report(predict.parse(["--images", "in", "--out", "s.csv", *options]), written)
    printed = capsys.readouterr()
    assert f"next: vindr-det visualize {words} s.csv" in printed.err
    assert "NOT CHECKED, since 1 image has its boxes in the file's pixels (--meta)" in printed.out
    args = predict.parse(["--images", "in", "--out", "s.csv"])
    predict._report(args, replace(written, in_file_pixels=0))
    assert "s.csv: 3 images, 1 boxes, checked; 1 were NOT READ" in capsys.readouterr().out
    for drawn in (["--images", "in", "--pictures", "--out", "s.csv"], ["a.png", "b.png"]):
        predict._report(predict.parse(drawn), written)
        assert next_of(capsys) == []


def test_fitted_anchors_are_trained_with_as_printed(phantoms, capsys):
    from vindr_det.commands import train

    truth, = (phantoms / "data").rglob("instances_all.json")
    main_of("fit-anchors")(["--annotations", str(truth), "--config", "configs/demo/vindr_frcnn_demo.yaml"])
    words, = next_of(capsys)
    assert words[:3] == ["train", "--config", "configs/demo/vindr_frcnn_demo.yaml"]
    keys = train.parse(words[1:]).opts
    assert keys[::2] == ["MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"]
    sizes, ratios = (json.loads(text) for text in keys[1::2])
    assert len(sizes) == 5 and len(ratios[0]) == 3


def test_a_copied_bundle_is_predicted_with(tmp_path, capsys):
    main_of("bundle")(["--copy", "phantom", "--out", f"{tmp_path}/my bundle"])
    words, = next_of(capsys)
    assert words[:3] == ["predict", "--bundle", f"{tmp_path}/my bundle"]
