"""A bundle predicts what its parts predict; what is damaged, newer or does not fit is refused in one line."""

import json
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from bundle_parts import NIH, save_detector
from conftest import classifier_config

from vindr_det.bundle import CardFacts, Parts, copy_bundle, read_bundle, write_bundle
from vindr_det.bundle.read import open_bundle
from vindr_det.bundle.tensors import from_bytes, to_bytes
from vindr_det.classification.data import Normalization
from vindr_det.classification.model import build_model, save_checkpoint
from vindr_det.classification.operating_points import Calibration, OperatingPoints, save_points
from vindr_det.data.in_sample import as_json
from vindr_det.exceptions import InputError
from vindr_det.files import read_bytes, write_json
from vindr_det.postprocessing.gate import Append, Scale


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """``parts(engine)``: files of two detectors, a calibrated classifier of two folds, a gate, a fusion."""
    root = tmp_path_factory.mktemp("parts")
    cfg = classifier_config(root, root / "classifier")
    (root / "classifier").mkdir()
    for fold in range(2):
        torch.manual_seed(fold)
        save_checkpoint(root / f"classifier/fold{fold}.pth", build_model(cfg).state_dict(), cfg,
                        Normalization(0.4, 0.2), {"auc": 0.5})
    save_points(root / "classifier", {"p_abnormal": OperatingPoints(Calibration("platt", 2.0, 0.3),
                                                                    {"a": 0.4})})
    gate = {"gate": Scale(0.5).as_json(), **as_json(["another"]),
            "fitted_on": {"predictions": {"file": str(root / "val.csv"), "sha256": "0"}}}
    write_json(root / "gate.json", gate)
    write_json(root / "tuned.json", {
        "fusion": {"method": "wbf", "iou_thr": 0.6, "skip_box_thr": 0.0, "weights": [1.0, 2.0],
                   "conf_type": "max", "max_boxes": 30},
        "gate": Append().as_json(), "search": {"predictions": ["a.csv", "b.csv"]}, **as_json(["another"])})
    made = {}

    def of(engine):
        if engine not in made:
            weights = [save_detector(root / f"{engine}{seed}.pth", engine, seed) for seed in (1, 2)]
            made[engine] = Parts(weights, root / "classifier", root / "gate.json")
        return made[engine]

    return of


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    import cv2

    folder = tmp_path_factory.mktemp("images")
    for seed in range(3):
        coarse = np.random.default_rng(seed).normal(128, 40, (15, 12)).clip(0, 255)
        cv2.imwrite(str(folder / f"image{seed}.png"), coarse.repeat(10, 0).repeat(10, 1).astype(np.uint8))
    return folder


def predict(main_of, out, images, *options):
    """The long table and the submission of a run on the CPU."""
    assert main_of("predict.py", "--images", images, "--out", out, "--device", "cpu", "--workers", 1,
                   "--allow-inverted", *options) == 0
    return pd.read_csv(out.with_suffix(".predictions.csv")), out.read_text()


def of_parts(parts):
    return ["--weights", *parts.weights, "--classifier", parts.classifier, "--gate", parts.gate]


def test_a_bundle_predicts_the_numbers_of_its_parts(engine, parts, images, main_of, tmp_path):
    write_bundle(tmp_path / "b", parts(engine))
    copy_bundle(tmp_path / "b", tmp_path / "b.zip")
    table, submission = predict(main_of, tmp_path / "parts.csv", images, *of_parts(parts(engine)))
    assert len(table) > 30 and table["score"].nunique() > 10
    for place in ("b", "b.zip"):
        _, same = predict(main_of, tmp_path / f"{place}.csv", images, "--bundle", tmp_path / place)
        assert same == submission


def test_half_precision_changes_scores_by_less_than_a_thousandth(engine, parts, images, main_of, tmp_path):
    write_bundle(tmp_path / "b", parts(engine), half=True)
    write_bundle(tmp_path / "whole", parts(engine))
    sizes = [sum(path.stat().st_size for path in (tmp_path / name).glob("detector*.safetensors"))
             for name in ("b", "whole")]
    assert 0.49 < sizes[0] / sizes[1] < 0.52
    options = ["--iou-thr", 0.99, "TEST.DETECTIONS_PER_IMAGE", 300]
    whole, _ = predict(main_of, tmp_path / "w.csv", images, "--bundle", tmp_path / "whole", *options)
    half, _ = predict(main_of, tmp_path / "h.csv", images, "--bundle", tmp_path / "b", *options)
    best = [table.groupby(["image_id", "class_id"])["score"].max() for table in (whole, half)]
    assert (best[0] - best[1]).abs().max() < 1e-3 and len(best[0]) == 3 * 14


def test_the_fusion_of_a_search_is_part_of_the_bundle(parts, tmp_path):
    made = parts("torchvision")
    bundle = write_bundle(tmp_path / "b", Parts(made.weights, made.classifier,
                                                tuned=made.gate.with_name("tuned.json")))
    assert str(bundle.models.fusion) == str(read_bundle(tmp_path / "b", "cpu").models.fusion)
    assert (bundle.models.fusion.iou_thr, bundle.models.fusion.weights) == (0.6, (1.0, 2.0))
    assert isinstance(bundle.models.gate, Append)


def test_a_bundle_holds_no_pickle_and_no_path_of_the_machine(parts, tmp_path):
    made = parts("torchvision")
    write_bundle(tmp_path / "b", made)
    files = sorted((tmp_path / "b").iterdir())
    assert {path.suffix for path in files} == {".safetensors", ".yaml", ".json", ".md"}
    for path in files:
        data = path.read_bytes()
        assert str(made.gate.parent).encode() not in data, path.name
        assert path.suffix != ".safetensors" or data[8:9] == b"{"  # its header is JSON


def test_the_card_has_the_figures_the_notice_and_the_hashes(parts, tmp_path):
    import hashlib

    write_json(tmp_path / "metrics.json", {"vindr/mAP40": 0.3217, "vindr/mAP40/ci95": [0.25, 0.4],
                                           "vindr/mAP40/bias": 0.01, "vindr/AP40/ILD": None})
    made = parts("torchvision")
    facts = CardFacts("Ours", "48 images of ours", "cc-by-4.0", "Seen phantoms alone")
    write_bundle(tmp_path / "b", Parts(made.weights, metrics=[tmp_path / "metrics.json"]), facts=facts)
    card = (tmp_path / "b/README.md").read_text()
    rows = [line for line in card.splitlines() if line.startswith("| vindr/mAP40 ")]
    assert [cell.strip() for cell in rows[0].split("|")[1:4]] == ["vindr/mAP40", "0.322", "0.250 to 0.400"]
    for text in ("# Ours", "Seen phantoms alone", "48 images of ours", "license: cc-by-4.0",
                 "Not a medical device",
                 "vindr_train_fold0", "Pneumothorax",
                 hashlib.sha256((tmp_path / "b/detector0.safetensors").read_bytes()).hexdigest()):
        assert text in card, text


def test_the_notice_is_said_at_every_use(parts, images, main_of, tmp_path, caplog):
    made = parts("torchvision")
    write_bundle(tmp_path / "b", Parts(made.weights[:1]), facts=CardFacts(notice="Seen phantoms alone"))
    (tmp_path / "images").mkdir()
    (tmp_path / "images/broken.png").write_bytes(b"no image")
    (tmp_path / "images/a.png").write_bytes((images / "image0.png").read_bytes())
    caplog.clear()
    predict(main_of, tmp_path / "s.csv", tmp_path / "images", "--bundle", tmp_path / "b")
    assert "Seen phantoms alone" in caplog.text
    rows = pd.read_csv(tmp_path / "s.status.csv").set_index("image_id")
    assert rows.loc["a", "status"] == "flagged" and rows.loc["a", "reason"].endswith("Seen phantoms alone")
    assert rows.loc["broken", "status"] == "failed" and "phantoms" not in rows.loc["broken", "reason"]


def test_tensors_keep_type_and_values():
    state = {"weight": torch.tensor([[1.0, 1e-3]]), "bias": torch.tensor([1 / 3]),
             "far": torch.tensor([[1e6, 0.1]]), "count": torch.tensor(7)}
    whole, half = (from_bytes(to_bytes(state, half), "x") for half in (False, True))
    assert all(torch.equal(whole[name], state[name]) for name in state)
    assert half["weight"].dtype == torch.float32 and half["weight"].tolist()[0][1] == float(np.float16(1e-3))
    assert all(torch.equal(half[name], state[name]) for name in ("bias", "far", "count"))
    assert len(to_bytes({"w": torch.zeros(100, 100)}, True)) < 20_200


@pytest.fixture(scope="module")
def written(parts, tmp_path_factory):
    """A bundle of a detector and a classifier, to be copied."""
    made, folder = parts("torchvision"), tmp_path_factory.mktemp("written") / "b"
    write_bundle(folder, Parts(made.weights[:1], made.classifier))
    return folder


def cut_short(folder):
    path = folder / "detector0.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def changed(folder):
    path = folder / "detector0.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def without_hash(folder, name):
    """The manifest still names the file for its model, and the file is another."""
    files = json.loads((folder / "bundle.json").read_text())["files"]
    del files[name]
    manifest(folder, files=files)


def detector(folder, **values):
    (entry,) = json.loads((folder / "bundle.json").read_text())["detectors"]
    manifest(folder, detectors=[entry | values])


def fold(folder, **values):
    """The manifest with other values of the classifier's first fold."""
    classifier = json.loads((folder / "bundle.json").read_text())["classifier"]
    classifier["models"][0] |= values
    manifest(folder, classifier=classifier)


def manifest(folder, **values):
    path = folder / "bundle.json"
    write_json(path, json.loads(path.read_text()) | values)


@pytest.mark.parametrize(("damage", "message"), [
    (lambda b: (b / "bundle.json").unlink(), "holds no bundle.json, expected a bundle of vindr-det bundle"),
    (lambda b: (b / "bundle.json").write_text("{"), "its bundle.json is damaged"),
    (lambda b: (b / "bundle.json").write_text("[]"), "its bundle.json is damaged"),
    (lambda b: manifest(b, format=2, vindr_det="9.9"), "is of format 2, expected 1 or less: written by "
                                                       "vindr_det 9.9"),
    (lambda b: manifest(b, files={"../x": {"bytes": 1, "sha256": ""}}), "expected plain names"),
    (lambda b: manifest(b, detectors=None), "its bundle.json is damaged"),
    (lambda b: manifest(b, label_set={"name": "NIH boxes", "findings": []}), "label sets NIH boxes and "
                                                                             "VinBigData"),
    (lambda b: (b / "detector0.yaml").unlink(), "holds no detector0.yaml, which its bundle.json lists"),
    (lambda b: (b / "detector0.yaml").write_text("A: 1"), "detector0.yaml has 4 bytes, expected"),
    (lambda b: without_hash(b, "detector0.safetensors"), "names 'detector0.safetensors', of which its files "
                                                         "have no hash"),
    (lambda b: without_hash(b, "detector0.yaml"), "names 'detector0.yaml', of which"),
    (lambda b: detector(b, weights="../b/detector0.safetensors"), "names '../b/detector0.safetensors', of"),
    (lambda b: detector(b, weights=["detector0.safetensors"]), "names ['detector0.safetensors'], of"),
    (lambda b: detector(b, engine="x"), "(detectors: expected a list of detectors of detectron2 or"),
    (lambda b: manifest(b, detectors=[]), "(detectors: expected a list of detectors of detectron2 or"),
    (lambda b: manifest(b, detectors={}), "(detectors: expected a list of detectors of detectron2 or"),
    (lambda b: manifest(b, classifier={"points": None, "models": [{"size": 0}]}), "(classifier: expected"),
    (lambda b: manifest(b, gate=7), "(gate: expected null, or the name of a file)"),
    (lambda b: manifest(b, gate="detector0.yaml"), "detector0.yaml is not valid JSON"),
    (lambda b: manifest(b, gate="detector0.safetensors"), "detector0.safetensors is not UTF-8 text"),
    (lambda b: detector(b, label_set="x"), "its label_set is 'x', expected 'VinBigData'"),
    (lambda b: detector(b, preprocessing={"image_size": 999}), "its preprocessing is {'image_size': 999}, "
                                                               "expected {'image_size': "),
    (lambda b: detector(b, weights="classifier0.safetensors"), "b: classifier0.safetensors: weights of "
     "another network than its config describes ("),
    (lambda b: detector(b, classes=None), "(detectors: expected a list of detectors of detectron2 or"),
    (lambda b: manifest(b, fusion={"iou_thr": 0.5}), "(fusion: expected null, or the options of a fusion)"),
    (lambda b: manifest(b, label_set={"name": "x"}), "(label_set: expected a name and findings)"),
    (lambda b: fold(b, weights="detector0.safetensors"), "b: detector0.safetensors: weights of another "
     "network than its config describes ("),
    (lambda b: fold(b, classes=["a", "b"]), "its classes is ['a', 'b'], expected ['p_abnormal'], as in its "),
    (lambda b: fold(b, classes=[]), "its classes is [], expected ['p_abnormal'], as in its config"),
    (lambda b: fold(b, size=10**9), "its size is 1000000000, expected "),
    (lambda b: fold(b, normalization={"mean": -5}), "its normalization is {'mean': -5}, expected a mean"),
    (lambda b: fold(b, normalization={"nope": 1}), "its normalization is {'nope': 1}, expected a mean"),
    (lambda b: manifest(b, notice=5), "(notice: expected a text)"),
    (lambda b: manifest(b, format=-1), "(format -1, expected 1)"),
    (lambda b: manifest(b, format="1"), "(format '1', expected 1)"),
    (cut_short, "cut short"),
    (changed, "detector0.safetensors was changed: its SHA-256 is"),
])
def test_a_damaged_bundle_is_refused(damage, message, written, tmp_path):
    shutil.copytree(written, tmp_path / "b")
    damage(tmp_path / "b")
    with pytest.raises(InputError, match=".+") as error:
        read_bundle(tmp_path / "b", "cpu")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path / "b") in str(error.value)


def test_a_zip_file_that_is_cut_short_is_refused(parts, tmp_path):
    write_bundle(tmp_path / "b.zip", Parts(parts("torchvision").weights[:1]))
    (tmp_path / "half.zip").write_bytes((tmp_path / "b.zip").read_bytes()[:100_000])
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    for name, message in (("half", "not a bundle, or cut short"), ("other", "holds no bundle.json")):
        with pytest.raises(InputError, match=message):
            read_bundle(tmp_path / f"{name}.zip", "cpu")


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_packed_zip_file_that_is_damaged_is_refused(packing, tmp_path):
    """Each packing has errors of its own."""
    with zipfile.ZipFile(tmp_path / "b.zip", "w", packing) as archive:
        archive.writestr("bundle.json", json.dumps({"format": 1, "files": {}, "notice": "a" * 500}))
    data = bytearray((tmp_path / "b.zip").read_bytes())
    data[41:60] = b"\xff" * 19
    (tmp_path / "b.zip").write_bytes(data)
    for read in (open_bundle, read_bytes):
        with pytest.raises(InputError, match=r"b.zip: (not a bundle, or cut short|damaged archive) \("):
            read(tmp_path / "b.zip")


def test_an_engine_that_is_not_installed_is_named(parts, tmp_path, monkeypatch):
    write_bundle(tmp_path / "b", Parts(parts("torchvision").weights[:1]))
    data = json.loads((tmp_path / "b/bundle.json").read_text())
    data["detectors"][0]["engine"] = "detectron2"
    write_json(tmp_path / "b/bundle.json", data)
    monkeypatch.setattr("vindr_det.detection.engine.detectron2_is_here", lambda: False)
    with pytest.raises(InputError, match="trained with Detectron2, which does not import here"):
        read_bundle(tmp_path / "b", "cpu")


@pytest.mark.parametrize(("change", "message"), [
    ({"weights": ["none.pth"]}, "none.pth: no such file"),
    ({"weights": ["model.onnx"]}, "expected the checkpoint"),
    ({"classifier": None}, "gate of form scale expects a classifier"),
    ({"classifier": "nowhere"}, "nowhere: holds no fold"),
    ({"gate": "tuned.json", "classifier": "weights"}, "holds no fold"),
    ({"gate": "nih.json"}, "was fitted to predictions of label set NIH boxes, expected VinBigData"),
    ({"gate": "metrics.json"}, "metrics.json: not a gate"),
    ({"tuned": "metrics.json"}, "not a file of vindr-det tune"),
    ({"metrics": ["none.json"]}, "none.json: no such file"),
])
def test_parts_that_do_not_fit_leave_nothing_behind(change, message, parts, tmp_path, monkeypatch):
    from dataclasses import replace

    monkeypatch.chdir(tmp_path)
    made = parts("torchvision")
    write_json("nih.json", {"gate": Append().as_json(), "label_set": "NIH boxes", **as_json(["a"])})
    write_json("metrics.json", {"vindr/mAP40": 0.1})
    with pytest.raises(InputError) as error:
        write_bundle("out", replace(made, **change))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(("out", "facts", "message"), [
    ("b.tar.gz", {}, "'b.tar.gz': expected a folder, or a .zip file"), (" ", {}, "' ': expected a folder"),
    ("b", {"license": "mit\ndatasets: x"}, "--license 'mit.ndatasets: x': expected a single line"),
    ("b", {"title": "a\n# b"}, "--title 'a.n# b': expected a single line"),
])
def test_a_card_has_single_lines(out, facts, message, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        write_bundle(out, Parts(parts("torchvision").weights[:1]), facts=CardFacts(**facts))
    assert not list(tmp_path.iterdir())


def test_a_license_is_one_value_of_the_cards_header(parts, tmp_path):
    import yaml

    write_bundle(tmp_path / "b", Parts(parts("torchvision").weights[:1]),
                 facts=CardFacts(license="other: [mine] # not a comment"))
    header = yaml.safe_load((tmp_path / "b/README.md").read_text().split("---")[1])
    assert header["license"] == "other: [mine] # not a comment" and "datasets" not in header


def test_detectors_of_two_label_sets_are_refused(parts, tmp_path):
    other = save_detector(tmp_path / "nih.pth", "torchvision", 3, *NIH)
    with pytest.raises(InputError, match="label sets VinBigData and NIH boxes"):
        write_bundle(tmp_path / "b", Parts([parts("torchvision").weights[0], other]))


def test_the_suffix_of_a_zip_file_may_be_in_capitals(written, tmp_path):
    copy_bundle(written, tmp_path / "b.ZIP")
    assert zipfile.is_zipfile(tmp_path / "b.ZIP") and read_bundle(tmp_path / "b.ZIP", "cpu").label_set
    shutil.copytree(written, tmp_path / "b")
    (tmp_path / "b/README.md").unlink()
    with pytest.raises(InputError, match="b: holds no README.md, its model card"):
        read_bundle(tmp_path / "b", "cpu")


def test_only_a_bundle_is_replaced(parts, tmp_path):
    made = Parts(parts("torchvision").weights[:1])
    write_bundle(tmp_path / "b", made)
    write_bundle(tmp_path / "b", made, facts=CardFacts(title="Again"))
    assert "# Again" in (tmp_path / "b/README.md").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, message in (("mine", "is a folder of other files"), ("file", "is a file, expected a folder")):
        with pytest.raises(InputError, match=message):
            write_bundle(tmp_path / name, made)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "file", "mine"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--bundle", "nowhere"], "nowhere: no such bundle"),
    (["--bundle", "b", "--weights", "a.pth"], "--bundle b with --weights"),
    (["--bundle", "b", "--gate", "a.json"], "--bundle b with --gate"),
])
def test_predict_refuses_what_a_bundle_has_itself(arguments, message, images, main_of, tmp_path):
    with pytest.raises(InputError, match=message):
        main_of("predict.py", *arguments, "--images", images, "--out", tmp_path / "s.csv")


def test_a_gate_is_not_applied_to_the_images_of_its_fit(parts, images, main_of, tmp_path):
    made = parts("torchvision")
    write_json(tmp_path / "gate.json", {"gate": Append().as_json(), **as_json(["image1"])})
    write_bundle(tmp_path / "b", Parts(made.weights[:1], made.classifier, tmp_path / "gate.json"))
    with pytest.raises(InputError, match="gate.json: was fitted on 1 of these 3 images, the first is image1"):
        main_of("predict.py", "--bundle", tmp_path / "b", "--images", images, "--out", tmp_path / "s.csv")
