"""The bundle that ships with the package: small, whole, and open about what it has seen."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import vindr_det
from vindr_det.bundle.files import find, shipped
from vindr_det.commands.predict import parse
from vindr_det.exceptions import InputError

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


def test_images_are_named_before_the_keys(main_of, phantoms, tmp_path, monkeypatch, capsys):
    """The first minute: a command and an image, and there is a picture."""
    monkeypatch.chdir(tmp_path)
    names = ["A.PNG", "b.png"]
    for source, name in zip(sorted((phantoms / "data/test").glob("*.png")), names, strict=False):
        shutil.copy(source, name)
    options = ["--bundle", "phantom", "--device", "cpu", "--workers", 1]
    assert main_of("predict.py", *options, *names, "TEST.DETECTIONS_PER_IMAGE", 50) == 0
    text = capsys.readouterr().out
    assert "predictions/submission.csv: 2 images" in text
    assert "predictions/pictures/index.html: pictures of the first 2 images" in text
    pictures = sorted(path.name for path in (tmp_path / "predictions/pictures").iterdir())
    assert pictures == ["A.png", "b.png", "index.html"]
    assert main_of("predict.py", *options, "--images", "b.png", "--out", "s/s.csv", "--pictures") == 0
    assert sorted(path.name for path in (tmp_path / "s/pictures").iterdir()) == ["b.png", "index.html"]
    assert main_of("predict.py", *options, "--images", "b.png", "--out", "t/s.csv") == 0
    assert not (tmp_path / "t/pictures").exists()


def test_no_picture_of_an_earlier_run_stays(main_of, phantoms, tmp_path, monkeypatch):
    """A picture beside a row "failed" would look as if the image had been read."""
    monkeypatch.chdir(tmp_path)
    for source, name in zip(sorted((phantoms / "data/test").glob("*.png")), "ab", strict=False):
        shutil.copy(source, f"{name}.png")
    options = ["--bundle", "phantom", "--device", "cpu", "--workers", 1]
    pictures = Path("predictions/pictures")
    assert main_of("predict.py", *options, "a.png", "b.png") == 0
    shutil.copy("a.png", pictures / "mine.png")
    Path("a.png").write_bytes(Path("a.png").read_bytes()[:3000])
    assert main_of("predict.py", *options, "a.png", "b.png") == 0
    assert sorted(path.name for path in pictures.iterdir()) == ["b.png", "index.html", "mine.png"]
    page = (pictures / "index.html").read_text()
    assert 'data-id="a" data-status="failed"' in page and 'data-id="b" data-status="flagged"' in page
    others = ["--images", "a.png", "--out", "predictions/other.csv"]
    for name, left in (("other", 3), ("submission", 1)):
        with pytest.raises(InputError, match="none of 1 images can be read"):
            main_of("predict.py", *options, *others[:3], f"predictions/{name}.csv", "--strict")
        assert len(list(pictures.iterdir())) == left


@pytest.mark.parametrize("words, message", [
    ([], "the following arguments are required: --out"),
    (["TEST.DETECTIONS_PER_IMAGE", "3"], "the following arguments are required: --out"),
    (["SCAN.TIF", "--images", "y.png"], "--images y.png with SCAN.TIF: expected one of the two"),
    (["no.png", "--images", "y.png"], "--images y.png with no.png: expected one of the two"),
])
def test_either_images_or_out(words, message):
    with pytest.raises(InputError, match=message):
        parse(["--bundle", "phantom", *words])


@pytest.mark.parametrize("words, message", [
    (["a.pth", "b.pth", "x.dicom"],
     "--weights x.dicom: is no checkpoint; give images before --weights or with --images"),
    (["a.pth", "X.PNG", "--out", "s.csv"], "--weights X.PNG: is no checkpoint; give images before --weights"),
    (["a.pth", "folder", "--out", "s.csv"], "--weights folder: is no checkpoint"),
    (["a.pth", "IM1", "--out", "s.csv"], "--weights IM1: is no checkpoint"),
    (["a.pth", "TEST.DETECTIONS_PER_IMAGE", "3"],
     "--weights TEST.DETECTIONS_PER_IMAGE: is no checkpoint; give KEY VALUE after another option, such as ")])
def test_what_follows_the_weights_is_not_taken_for_weights(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("IM1").write_bytes(bytes(128) + b"DICM")  # a DICOM file without suffix
    with pytest.raises(InputError, match=message):
        parse(["--weights", *words])
    assert parse(["x.png", "--weights", "a.pth", "b.onnx"]).weights == ["a.pth", "b.onnx"]


@pytest.mark.parametrize("word", ["no.png", "NO.PNG", "score", "x.y"])
def test_a_word_that_is_no_key_is_an_image(word):
    with pytest.raises(InputError, match=f"{word}: no such folder of images, nor an image"):
        vindr_det.run("predict", word, bundle="phantom")


def test_a_wrong_path_does_not_wait_for_torch(tmp_path):
    code = ("import sys, vindr_det\ntry: vindr_det.run('predict', 'no.png', bundle='phantom')\n"
            "except vindr_det.InputError as error: print(error, 'torch' in sys.modules)")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert result.stdout == "no.png: no such folder of images, nor an image False\n", result.stderr


def test_what_lies_near_a_bundle_is_told(tmp_path):
    with pytest.raises(InputError, match="phantm: no such bundle; did you mean phantom?"):
        find("phantm")
    (tmp_path / "model_best.pth").write_bytes(b"")
    with pytest.raises(InputError, match="folder of a training, expected its checkpoint, .*best.pth"):
        find(tmp_path)
    shutil.copytree(ROOT / "vindr_det/bundles/phantom", tmp_path / "a/mine")
    path = shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path / "a", "mine")
    assert find(path).all() == find("phantom").all()
