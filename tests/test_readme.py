"""What the README says must be so."""

import json
import re
import shlex

import numpy as np
import pytest
from conftest import ROOT, TINY

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.detectron2
def test_the_detectron2_example_trains(phantoms, tmp_path):
    from vindr_det.config import load_config

    code = re.search(r"```python\n(.*?)```", TEXT, re.S)[1]
    scope: dict = {}
    exec(code.replace("datasets/vindr", str(phantoms / "data")), scope)
    cfg = load_config(ROOT / "configs/demo/vindr_frcnn_demo.yaml", "detectron2", [
        *TINY, "OUTPUT_DIR", str(tmp_path), "DATASETS.TRAIN", "('vindr_train_fold0',)",
        "DATASETS.TEST", "('vindr_val_fold0',)"])
    trainer = scope["Trainer"](cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    written = {k: v for line in (tmp_path / "metrics.json").read_text().splitlines()
               for k, v in json.loads(line).items()}
    assert np.isfinite(written["validation_loss"]) and np.isfinite(written["vindr/mAP40"])


def commands():
    """Every `python tools/...` of the documents, continuation lines joined."""
    for name in ("README.md", "datasets/README.md", "INSTALL.md"):
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"python (tools/[^`\n]+)", text):
            yield pytest.param(shlex.split(line), id=f"{name}: {line[:60]}")


@pytest.mark.parametrize("words", commands())
def test_documented_options_exist(words, tool):
    help_text = tool(words[0].removeprefix("tools/"), "--help").stdout
    for option in [word for word in words if word.startswith("--")]:
        assert option in help_text, f"{words[0]} has no {option}"


def test_links_lead_somewhere():
    for name in ("README.md", "INSTALL.md", "CONTRIBUTING.md", "datasets/README.md"):
        path = ROOT / name
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{name}: {target}"
