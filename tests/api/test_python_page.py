"""docs/python.md: every example runs, from top to bottom, as a notebook's cells do."""

import re
import shutil

import cv2
import pytest
import yaml
from conftest import DEMO, ROOT, TINY, classifier_config

from vindr_det.data.in_sample import as_json
from vindr_det.files import write_json
from vindr_det.postprocessing.gate import Scale

PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")


@pytest.fixture
def tree(phantoms, trained, tmp_path, monkeypatch):
    """A folder in which the page's files exist; its config is the demo's, shrunk."""
    from vindr_det.classification.train import train

    for name in ("model_best.pth", "model_final.pth"):
        shutil.copy(trained("torchvision") / "model_final.pth", tmp_path / name)
    train(classifier_config(phantoms, tmp_path / "outputs/classifier"), [0])
    write_json(tmp_path / "gate.json", {"gate": Scale(0.9).as_json(), **as_json(["another"])})
    dicom = min((phantoms / "raw/test").glob("*.dicom"))
    shutil.copy(dicom, tmp_path / "x.dicom")
    (tmp_path / "xrays").mkdir()
    cv2.imwrite(str(tmp_path / "xrays/y.png"), cv2.imread(str(phantoms / f"data/test/{dicom.stem}.png"), 0))
    (tmp_path / "xrays/damaged.png").write_bytes((tmp_path / "xrays/y.png").read_bytes()[:900])
    (tmp_path / "raw").symlink_to(phantoms / "raw")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train").symlink_to(phantoms / "data/train")
    settings = dict(zip(TINY[::2], TINY[1::2], strict=True))
    settings |= {"VINDR.DATA_ROOT": "data", "OUTPUT_DIR": "out"}
    config = {"_BASE_": str(DEMO)}
    for key, value in settings.items():
        node = config
        *nodes, last = key.split(".")
        for name in nodes:
            node = node.setdefault(name, {})
        node[last] = yaml.safe_load(value)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/my.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_every_example_runs(tree, capsys):
    names: dict = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "damaged failed" in shown and "y flagged only" in shown and "Cardiomegaly" in shown
    assert all((tree / name).is_file() for name in ("x.png", "x.json", "val.csv", "fused.csv"))
    assert set(names["table"]["status"]) == {"flagged", "failed"}
    assert names["gated"].predict("x.dicom").probabilities.keys() == {"p_abnormal"}
    assert 0 <= names["metrics"]["coco/AP"] <= 1
    assert names["fused"].keys() == names["predictions"].predictions.keys()
