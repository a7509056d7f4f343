"""The bundle that ships with the package: small, whole, and open about what it has seen."""

import pytest
from conftest import ROOT

from vindr_det.bundle.files import find, shipped

MAX_BYTES = 8_000_000


def test_the_bundle_of_phantoms_is_small_and_states_what_it_has_seen():
    assert shipped() == ["phantom"]
    bundle = find("phantom")
    files = bundle.all()
    assert sum(map(len, files.values())) <= MAX_BYTES
    notice = bundle.manifest["notice"]
    assert "synthetic images (phantoms) alone" in notice and notice in files["README.md"].decode()
    assert [entry["engine"] for entry in bundle.manifest["detectors"]] == ["torchvision"]
    assert bundle.manifest["classifier"] and bundle.manifest["precision"] == "half"
    assert sorted(files) == sorted(path.name for path in (ROOT / "vindr_det/bundles/phantom").iterdir())


def test_a_folder_of_the_same_name_comes_before_the_shipped_bundle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phantom").mkdir()
    (tmp_path / "phantom/bundle.json").write_text('{"format": 1, "files": {}}')
    assert find("phantom").manifest["files"] == {}


@pytest.mark.slow
def test_it_predicts_an_image_in_any_folder(tool, phantoms, tmp_path):
    image = sorted((phantoms / "data/test").glob("*.png"))[0]
    run = tool("predict.py", "--bundle", "phantom", "--images", image, "--out", "s.csv", "--device", "cpu",
               cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "has seen synthetic images (phantoms) alone" in run.stderr
    assert "synthetic images (phantoms) alone" in (tmp_path / "s.status.csv").read_text()
