"""The document's recipe: a validation fold predicted, a gate and a search from it."""

import re
import shlex
import shutil

import pytest
from conftest import ROOT, classifier_config

from vindr_det.classification.train import train
from vindr_det.commands import run_command
from vindr_det.data.coco import read_coco
from vindr_det.files import read_json
from vindr_det.submission import read_submission

pytest.importorskip("optuna")


def commands():
    """A command and its arguments, in each command of the section."""
    text = (ROOT / "docs/prediction.md").read_text()
    block = re.search(r"## A gate and a search from a validation fold.*?```\n(.*?)```", text, re.S)[1]
    for line in block.replace("\\\n", " ").splitlines():
        program, command, *args = shlex.split(line)
        assert program == "vindr-det"
        yield command, args


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_documents_recipe_from_a_validation_fold(phantoms, trained, tmp_path, monkeypatch):
    shutil.copytree(trained("torchvision"), tmp_path / "outputs/vindr_frcnn")
    shutil.copytree(phantoms / "data/annotations", tmp_path / "datasets/vindr/annotations")
    train(classifier_config(phantoms, tmp_path / "outputs/vindr_binary_effnet_b2"))
    monkeypatch.chdir(tmp_path)
    for command, args in commands():
        assert run_command(command, [*args, *(["--trials", "8"] if command == "tune" else [])]) == 0
    records = read_coco("datasets/vindr/annotations/instances_val_fold0.json")
    assert list(read_submission("val.csv")) == [record.image_id for record in records]
    assert read_json("gate.json")["gate"] and read_json("tuned.json")["gate"]
    tested = {path.stem for path in (phantoms / "data/test").glob("*.png")}
    assert set(read_submission("S.csv")) == tested
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
