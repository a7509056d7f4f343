"""The notebooks from top to bottom on phantoms, in seconds and without Detectron2."""

import base64

import cv2
import numpy as np
import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHORT = {"VINDR_NOTEBOOK_IMAGES": "18", "VINDR_NOTEBOOK_ITERATIONS": "3", "VINDR_NOTEBOOK_SIDE": "96",
         "VINDR_NOTEBOOK_EPOCHS": "1"}


def outputs_of(notebook) -> list:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    for name, value in {**SHORT, "VINDR_NOTEBOOK_FOLDER": str(tmp_path / "work"), "PYTHONPATH": str(ROOT),
                        "CUDA_VISIBLE_DEVICES": ""}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = outputs_of(notebook)
    pictures = [output.data["image/png"] for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) >= 4, "the curves, a batch, validation images and a result must be seen"
    for picture in pictures:
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR)
        assert pixels.std() > 10
    assert "'vindr/mAP40': " in shown[-1].data["text/plain"]
    assert "TqdmWarning" not in "".join(output.get("text", "") for output in shown)
    for name in ("submission.csv", "submission.status.csv"):
        assert (tmp_path / "work" / name).is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs_and_need_neither_make_nor_detectron2(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not outputs_of(notebook) and len(notebook.cells) > 10
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "detectron2" not in code.lower() and "make " not in code and 'engine="torchvision"' in code


def test_real_data_are_never_allowed_an_inverted_classifier_and_are_scored_with_it():
    """The notebook for the competition: what phantoms need is for phantoms only."""
    cells = nbformat.read(ROOT / "notebooks/kaggle_vinbigdata.ipynb", as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    allowed = [line for source in code for line in source.splitlines() if "allow_inverted" in line]
    assert allowed and all("if ON_PHANTOMS else {}" in line for line in allowed)
    predicted = [source for source in code if "vindr_det.predict(" in source]
    assert len(predicted) == 2 and all('classifier="classifier"' in source for source in predicted)
