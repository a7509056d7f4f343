"""What ``import vindr_det`` offers gives the commands' numbers, and keeps an image that failed apart."""

import io
import json
import subprocess
import sys
import weakref
from pathlib import Path
from types import GeneratorType
from zipfile import ZipFile

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import classifier_config
from metric_cases import P
from PIL import Image

import vindr_det
from vindr_det import InputError, cli
from vindr_det.api.functions import arguments
from vindr_det.api.model import Model, Source
from vindr_det.api.result import Result
from vindr_det.bundle import Parts, write_bundle
from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.data.in_sample import as_json
from vindr_det.files import write_json
from vindr_det.imaging import drawing
from vindr_det.imaging.inputs import Input
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import FAILED, FLAGGED, Status
from vindr_det.postprocessing.gate import Scale
from vindr_det.prediction import Models
from vindr_det.prediction_models import adjusted, read_gate
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH, VINBIGDATA
from vindr_det.submission.outputs import write_results


def test_the_import_waits_for_no_library():
    code = ("import sys, vindr_det; print(vindr_det.__version__); "
            "print(*{'torch', 'numpy', 'pandas', 'cv2', 'yaml'} & set(sys.modules)); vindr_det.no")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert result.stdout == f"{vindr_det.__version__}\n\n"
    assert result.stderr.strip().endswith("module 'vindr_det' has no attribute 'no'")
    assert set(vindr_det.__all__) <= set(dir(vindr_det))
    assert all(callable(getattr(vindr_det, name)) for name in vindr_det.__all__ if name != "__version__")


@pytest.fixture(scope="module")
def classifier(phantoms, tmp_path_factory):
    from vindr_det.classification.train import train

    out = tmp_path_factory.mktemp("classifier")
    train(classifier_config(phantoms, out), [0])
    return out


def boxes_of(predictions, score=0.0):
    """(N, 6) class id, score and box of findings, best first."""
    shown = predictions.findings().by_score()
    rows = np.column_stack([shown.labels, shown.scores, shown.boxes])
    return rows[rows[:, 1] >= score]


def shown_by(result):
    return np.column_stack([result.labels, result.scores, result.boxes])


def test_a_models_numbers_are_the_commands(engine, trained, phantoms, classifier, tmp_path):
    """Detector, classifier and gate; a folder that is read by processes and by none; its status table too."""
    weights, images = trained(engine) / "model_final.pth", phantoms / "raw/test"
    write_json(tmp_path / "gate.json", {"gate": Scale(0.9).as_json(), **as_json(["another"])})
    beside = {"classifier": classifier, "gate": tmp_path / "gate.json"}
    written = vindr_det.predict(images, tmp_path / "s.csv", weights=[weights], device="cpu", workers=1,
                                allow_inverted=True, **beside)
    model = vindr_det.load(weights, "cpu", **beside)
    results = model.predict(images, score=0)
    assert isinstance(results, GeneratorType)
    results = list(results)
    assert [result.row for result in results] == written.statuses and len(results) == 6
    for result in results:
        expected = written.predictions[result.image_id]
        assert np.allclose(shown_by(result), boxes_of(expected), atol=1e-3)
        no_finding = expected.scores[expected.labels == 14]
        assert result.no_finding == pytest.approx(no_finding[0], abs=1e-5)
        assert result.probabilities["p_abnormal"] == pytest.approx(1 - no_finding[0], abs=1e-5)
    table = pd.read_csv(tmp_path / "s.predictions.csv", dtype={"image_id": str})
    table, frame = (each[each["class_id"].notna()] for each in (
        table, pd.concat([result.to_dataframe() for result in results])))
    assert len(frame) == len(table) > 0
    for column in ("image_id", "SOPInstanceUID", "class_id", "class_name"):
        assert frame[column].tolist() == table[column].tolist(), column
    for column in ("score", "x_min", "y_min", "x_max", "y_max"):
        assert np.allclose(frame[column].astype(float), table[column], atol=6e-3, rtol=1e-5), column
    half = sorted(np.concatenate([result.scores for result in results]))[len(table) // 2]
    path = images / f"{results[0].image_id}.dicom"
    single = model.predict(path, score=half)
    assert isinstance(single, Result) and model(str(path), score=half).names == single.names
    assert np.allclose(shown_by(single), boxes_of(written.predictions[single.image_id], half), atol=1e-3)
    assert np.allclose(shown_by(results[0].at(half)), shown_by(single), atol=1e-3)
    write_bundle(tmp_path / "bundle", Parts([weights], classifier, tmp_path / "gate.json"))
    bundled = vindr_det.load(tmp_path / "bundle", "cpu").predict(path, score=half)
    assert np.allclose(shown_by(bundled), shown_by(single), atol=1e-3)
    assert bundled.probabilities == pytest.approx(single.probabilities, abs=1e-5)
    seen = [path.stem for path in images.glob("*.dicom")]
    write_json(tmp_path / "seen.json", {"gate": Scale(0.9).as_json(), **as_json(seen)})
    fitted = vindr_det.load(weights, "cpu", classifier=classifier, gate=tmp_path / "seen.json")
    with pytest.raises(InputError, match="seen.json: was fitted on 1 of these 1 images"):
        fitted.predict(path)
    assert fitted.predict(path, allow_in_sample=True, score=0).status == single.status


def test_a_classifiers_probabilities_are_the_commands(classifier, phantoms, tmp_path):
    images = phantoms / "raw/test"
    assert vindr_det.run("classify", classifier=classifier, images=images, out=tmp_path / "p.csv", workers=1,
                         device="cpu", point=0.5) == 0
    expected = pd.read_csv(tmp_path / "p.csv", dtype={"image_id": str}).set_index("image_id")["p_abnormal"]
    model = vindr_det.load(classifier, "cpu")
    results = list(model.predict(images))
    assert model.names == ("p_abnormal",)
    assert {result.image_id: result.probabilities["p_abnormal"] for result in results} == pytest.approx(
        expected.to_dict(), abs=1e-5)
    with pytest.raises(InputError, match="was classified; a classifier has no boxes, expected a detector"):
        _ = results[0].boxes
    assert results[0].to_dict()["boxes"] is None
    saved = pd.read_csv(results[0].save(tmp_path / "c.csv"))
    assert saved["p_abnormal"].tolist() == pytest.approx([results[0].probabilities["p_abnormal"]])
    assert results[0].plot().width > 100 and "p_abnormal" in repr(results[0])
    with pytest.raises(InputError, match="gate goes with a detector, expected a checkpoint or an ONNX file"):
        vindr_det.load(classifier, gate="gate.json")


FULL_SIZE = Target(0, True)


class Bright:
    """Detects the bright rectangle of each image; remembers which images are alive while it runs."""

    def __init__(self, target=FULL_SIZE, label_set=VINBIGDATA):
        self.target, self.label_set = target, label_set
        self.images, self.most = [], 0

    def __call__(self, images, scale=1.0):
        self.images += map(weakref.ref, images)
        self.most = max(self.most, sum(image() is not None for image in self.images))
        return [self._predict(image) for image in images]

    def _predict(self, image):
        rows, columns = np.nonzero(image > 200)
        if not len(rows):
            return Predictions(label_set=self.label_set)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Predictions(np.array([box, box]), np.array([0.9, 0.2]), np.array([3, 8]), self.label_set)


def model_of(predictor, **more):
    return Model(Source("bright", lambda device: Models([predictor], **more)), "cpu")


def picture(top=20, left=30, height=240, width=300):
    """A gray image with a white rectangle of 40 x 60 pixels (height x width)."""
    image = np.linspace(10, 90, width).astype(np.uint8)[None].repeat(height, axis=0)
    image[top:top + 40, left:left + 60] = 255
    return image


BOX = [30, 20, 90, 60]


@pytest.mark.parametrize("convert", [
    lambda image: image,
    lambda image: image[::-1][::-1],  # not contiguous
    lambda image: image.astype(np.uint16) * 16,
    lambda image: np.stack([image] * 3, axis=2),
    lambda image: np.stack([image.astype(np.uint16)] * 3, axis=2),
])
def test_an_array_is_predicted_as_its_png(convert, tmp_path):
    array = convert(picture())
    cv2.imwrite(str(tmp_path / "a.png"), array)
    file, memory = (model_of(Bright()).predict(image, score=0) for image in (tmp_path / "a.png", array))
    assert np.array_equal(file.boxes, [BOX, BOX]) and np.array_equal(memory.boxes, file.boxes)
    assert (memory.status, memory.size) == (file.status, (240, 300)) and memory.image_id == "array"
    assert np.array_equal(memory.image, file.image)


def test_the_byte_order_of_an_array_changes_nothing():
    pixels = picture().astype(np.uint16) * 16
    results = [model_of(Bright()).predict(pixels.astype(order)) for order in ("<u2", ">u2")]
    assert len(results[0]) and np.array_equal(results[0].boxes, results[1].boxes)
    assert np.array_equal(results[0].image, results[1].image)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "RGB", "RGBA", "P", "I;16"])
def test_an_image_of_pillow_is_predicted_as_its_png(mode, tmp_path):
    colors = np.random.default_rng(0).integers(0, 255, (240, 300, 3), np.uint8)
    given = Image.fromarray(colors[..., 0].astype(np.uint16) * 9 if mode == "I;16" else colors)
    given = given if mode == given.mode else given.convert(mode)
    given.save(tmp_path / "a.png")
    model = model_of(Bright())
    file, memory = model.predict(tmp_path / "a.png"), model.predict([given])[0]
    assert np.array_equal(memory.image, file.image) and memory.status == file.status
    if mode == "RGB":
        assert np.array_equal(model.predict(colors).image, file.image)


def test_home_and_the_number_of_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    built = []
    model = Model(Source("bright", lambda device: built.append(device) or Models([Bright()])), "cpu")
    assert len(model.predict("~/a.png", device=0)) == len(model.predict([Path("~/a.png")])[0]) == 1
    assert built == ["cpu", "cuda:0"] and model.device == "cuda:0"
    assert model.predict("~/a.png").save("~/b.json") == tmp_path / "b.json"
    assert arguments((), (), {"meta": "~/m.csv", "weights": ["~/a", "hf://a/b"]}) == [
        f"--meta={tmp_path}/m.csv", "--weights", f"{tmp_path}/a", "hf://a/b"]
    parser = cli.parser("")
    cli.add_device(parser, "where")
    assert parser.parse_args(["--device", "1"]).device == "cuda:1"


def test_options_that_change_nothing_are_a_warning(caplog):
    adjusted(Models([Bright()]), iou_thr=0.3)
    assert "an IoU threshold of 0.3 for the fusion changes nothing: there is one detector" in caplog.text
    caplog.clear()
    adjusted(Models([Bright(), Bright()]), iou_thr=0.3)
    assert not caplog.text
    vindr_det.load("phantom", "cpu", half=True)
    assert "computes in float32: half precision of type float16 needs a GPU" in caplog.text


@pytest.mark.parametrize("image, message", [
    (np.zeros((0, 5), np.uint8), r"array: has shape \(0, 5\) and no pixel"),
    (np.zeros((4, 8, 8), np.uint8), r"array: has shape \(4, 8, 8\), expected"),
    (np.zeros((8, 8, 4), np.uint8), r"array: has shape \(8, 8, 4\), expected"),
    (np.zeros(8, np.uint8), r"array: has shape \(8,\), expected"),
    (np.zeros((8, 8)), "array: pixels are float64, expected uint8 or uint16"),
    (np.zeros((8, 8), bool), "array: pixels are bool, expected uint8 or uint16"),
    (np.zeros((8, 8), np.int16), "array: pixels are int16, expected uint8 or uint16"),
    ([picture(), np.zeros((8, 8))], "array1: pixels are float64, expected uint8 or uint16"),
    (b"x.png", "an image of type bytes, expected a path, a numpy array, an image of Pillow, or a list"),
    (None, "an image of type NoneType, expected a path"),
    ([["x.png"]], "an image of type list, expected a path"),
    ("no.png", "no.png: no such folder of images, nor an image"),
    ("", "'': an empty path, expected a folder of images, or an image"),
    (["a.png", ""], "'': an empty path, expected a folder of images, or an image"),
    (np.ma.masked_less(picture(), 9), "array: is a masked array, expected pixels that are all known"),
    (5, "an image of type int, expected a path"),
    (["no.png"], "no.png: no such folder of images, nor an image"),
    (Image.new("F", (8, 8)), "array: pixels are float32, expected uint8 or uint16"),
    ("~no_such_user/a.png", "~no_such_user/a.png: no such folder"),
])
def test_what_is_no_image_is_refused_before_anything_is_predicted(image, message):
    predictor = Bright()
    with pytest.raises(InputError, match=message):
        model_of(predictor).predict(image)
    assert not predictor.images


@pytest.mark.parametrize("options, message", [
    ({"score": 1.2}, "score 1.2: expected a number from 0 to 1"),
    ({"score": "0.3"}, "score '0.3': expected a number from 0 to 1"),
    ({"score": float("nan")}, "score nan: expected a number from 0 to 1"),
    ({"batch_size": 0}, "batch_size 0: expected a whole number of 1 or more"),
    ({"workers": -1}, "workers -1: expected a whole number of 0 or more"),
    ({"device": "tpu"}, "device 'tpu': expected auto, cpu, cuda or cuda:<n>"),
    ({"device": True}, "device True: expected auto, cpu, cuda or cuda:<n>"),
    ({"device": -1}, "device -1: expected auto, cpu, cuda or cuda:<n>"),
    ({"recursive": "no"}, "recursive 'no': expected True or False"),
    ({"allow_inverted": 0}, "allow_inverted 0: expected True or False"),
    ({"max_pixels": "10"}, "max_pixels '10': expected a whole number of 1 or more"),
    ({"max_pixels": 0}, "max_pixels 0: expected a whole number of 1 or more"),
    ({"max_pixels": 100}, "array: 240 rows and 300 columns are 72,000 pixels, expected at most 100"),
])
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        model_of(Bright()).predict(picture(), **options)


@pytest.mark.parametrize("source, options, message", [
    ("", {}, "'': an empty path, expected a checkpoint"), (None, {}, "None: expected a checkpoint"),
    (5, {}, "5: expected a checkpoint"), ([], {}, "no detector is given"),
    ([None], {}, "None: expected a checkpoint"),
    ("a.pth", {"tta_scales": 1.0}, r"tta_scales 1.0: expected a list of numbers from 0.1 to 4"),
    ("a.pth", {"tta_scales": "1.0"}, r"tta_scales '1.0': expected a list of numbers from 0.1 to 4"),
    ("a.pth", {"tta_scales": [float("nan")]}, r"tta_scales \[nan\]: expected a list of numbers from"),
    (["a.pth", "b.pth"], {"iou_thr": "a"}, "iou_thr 'a': expected a number from 0 to 1"),
    (["phantom"], {}, r"phantom: expected detectors in a list, checkpoints \(.pth\) or ONNX files; a "
     "classifier's folder or a bundle is loaded alone"),
    ("x.pt", {}, r"x.pt: expected a checkpoint \(.pth\), an ONNX file, a classifier's folder or a bundle"),
    ("x.txt", {}, r"x.txt: expected a checkpoint \(.pth\), an ONNX file, a classifier's folder or a bundle"),
    ("a.pth", {"tta_scales": [100.0]}, r"tta_scales \[100.0\]: expected a list of numbers from 0.1 to 4"),
    ("a.pth", {"half": "no"}, "half 'no': expected True or False"),
    ("damaged.bundle", {}, "damaged.bundle: a damaged .zip file"),
    ("a.pth", {"gate": 5}, "gate 5: expected a path"),
    ("a.pth", {"classifier": 5}, "classifier 5: expected a path"),
    ("a.pth", {"overrides": 5}, "overrides 5: expected keys and values, a mapping or a list"),
    ("a.pth", {"overrides": "A.B 5"}, "overrides 'A.B 5': expected keys and values, a mapping or a list"),
    ("~/x.pth", {}, "home/x.pth: no such file"),
    ("fold0.pth", {}, "fold0.pth: a classifier's fold, expected a detector's model_best.pth or "
     "model_final.pth; a classifier is its whole folder"),
])
def test_what_cannot_be_loaded(source, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, key in (("x.pt", "state"), ("fold0.pth", "vindr_classifier")):
        torch.save({"model": {}, key: {}}, name)
    Path("x.txt").write_text("x")
    with ZipFile("damaged.bundle", "w") as archive:
        archive.writestr("a", "b")
    packed = Path("damaged.bundle").read_bytes()
    Path("damaged.bundle").write_bytes(packed.replace(b"PK\1\2", b"PK\1\1"))
    with pytest.raises(InputError, match=message):
        vindr_det.load(source, **options)


@pytest.mark.parametrize("longest", ["a", 0, -1, True, 1.5])
def test_a_picture_has_a_side(longest):
    with pytest.raises(InputError, match=f"longest {longest!r}: expected a whole number of 64 or more"):
        model_of(Bright()).predict(picture()).plot(longest)


def test_a_result_is_saved_under_a_path():
    with pytest.raises(InputError, match="None: expected a path of a file to write"):
        model_of(Bright()).predict(picture()).save(None)


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (lambda: vindr_det.predict("", "s.csv", bundle="phantom"),
                 lambda: vindr_det.run("bundle", copy="phantom", out=""),
                 lambda: vindr_det.predict("a.png", "s.csv", bundle="phantom", meta=""),
                 lambda: vindr_det.run("predict", "a.png", weights=["a.pth"], classifier=""),
                 lambda: vindr_det.run("predict", "", bundle="phantom"),
                 lambda: vindr_det.run("check-leaks", "", out="o"),
                 lambda: vindr_det.load("a.pth", gate=""), lambda: vindr_det.load("a.pth", classifier=""),
                 lambda: model_of(Bright()).predict([picture(), "a.png"], meta=""),
                 lambda: model_of(Bright()).predict(picture()).save(""), lambda: read_gate("")):
        with pytest.raises(InputError, match="'': an empty path"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files")
def test_a_folder_that_takes_no_files(monkeypatch):
    result = model_of(Bright()).predict(picture())
    monkeypatch.setattr("os.access", lambda *args: True)  # as of the superuser
    for call in (lambda: result.save("/proc/x.png"),
                 lambda: vindr_det.run("bundle", copy="phantom", out="/proc/b")):
        with pytest.raises(InputError, match="/proc/.: cannot be written|/proc/x.png: cannot be written"):
            call()


@pytest.fixture
def folder(tmp_path):
    """Three images: with a box, without, and one that cannot be read."""
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), picture())
    cv2.imwrite(str(images / "b.png"), np.minimum(picture(), 190))
    (images / "c.png").write_bytes((images / "a.png").read_bytes()[:500])
    return images


def test_an_image_that_failed_is_no_normal_image(folder):
    results = {result.image_id: result for result in model_of(Bright()).predict(folder)}
    assert {name: result.status for name, result in results.items()} == {"a": "ok", "b": "ok", "c": "failed"}
    failed, empty = results["c"], results["b"]
    assert empty.boxes.shape == (0, 4) and empty.names == [] and empty.no_finding == 1
    assert len(empty) == 0 and len(results["a"]) == 1 and all(results.values())  # len() makes none false
    for name in ("boxes", "scores", "labels", "names", "probabilities", "no_finding", "image"):
        with pytest.raises(InputError, match="c.png: .*nothing is known about this image"):
            getattr(failed, name)
    for call in (failed.plot, failed.to_coco, failed.to_supervision, lambda: len(failed),
                 lambda: failed.save(folder / "c2.png")):
        with pytest.raises(InputError, match="nothing is known about this image"):
            call()
    assert failed._repr_png_() is None and "failed: " in repr(failed) and not (folder / "c2.png").exists()
    assert (failed.to_dict()["boxes"], failed.to_dict()["status"]) == (None, FAILED)
    assert empty.to_dict()["boxes"] == []
    table = pd.concat([result.to_dataframe() for result in results.values()], ignore_index=True)
    assert table["status"].tolist() == ["ok", "ok", "failed"] and table["reason"][2] == failed.reason != ""
    assert table["class_name"].tolist() == ["Cardiomegaly", "", ""] and table["class_id"].isna().sum() == 2


def test_a_folder_streams(folder):
    """No more images are in memory than a batch and the next one; nothing is read before it is asked for."""
    for number in range(20):
        cv2.imwrite(str(folder / f"d{number}.png"), picture(left=number))
    predictor = Bright()
    results = model_of(predictor).predict(folder)
    assert predictor.images == []
    kept = list(results)
    assert len(predictor.images) == 22 and predictor.most <= 2 and len(kept) == 23


def test_a_list_has_a_result_per_image_with_ids_of_their_own(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    cv2.imwrite(str(other / "a.png"), picture(top=100))
    pd.DataFrame({"image_id": ["a"], "dim0": [480], "dim1": [600]}).to_csv(other / "meta.csv", index=False)
    results = model_of(Bright()).predict([folder / "a.png", str(other / "a.png"), picture(50), folder])
    assert [result.image_id for result in results] == ["a", "a~2", "array2", "a~3", "b", "c"]
    tops = [result.boxes[0][1] for result in results[:4]]
    assert tops == [20, 200, 50, 20] and results[1].size == (480, 600)
    assert model_of(Bright()).predict([]) == []


def result_of(label_set=VINBIGDATA, status="ok", reason="", columns=None):
    boxes = Predictions(np.array([[10.0, 20, 40, 80], [1, 2, 3, 4], [0, 0, 9, 9]]),
                        np.array([0.5, 0.25, 0.75]), np.array([3, 8, 0]), label_set)
    row = Status("a", "a.png", status, reason, {"StudyInstanceUID": "1.2"}, 240, 300)
    return Result(row, Input("a", "a.png", None, pixels=picture()), boxes, columns or {}, 0.5)


def test_a_result_as_other_formats(tmp_path):
    result = result_of(columns={"p_abnormal": 0.75})
    entries = [{"image_id": "a", "category_id": 0, "bbox": [0, 0, 9, 9], "score": 0.75},
               {"image_id": "a", "category_id": 3, "bbox": [10, 20, 30, 60], "score": 0.5}]
    assert result.to_coco() == entries
    assert result_of(NIH).to_coco()[0] == {"label_set": NIH.name, **entries[0]}
    frame = result.to_dataframe()
    assert frame.iloc[1].to_dict() == {
        "image_id": "a", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "", "SOPInstanceUID": "",
        "class_id": 3, "class_name": "Cardiomegaly", "score": 0.5, "x_min": 10, "y_min": 20, "x_max": 40,
        "y_max": 80, "label_set": "VinBigData", "status": "ok", "reason": "", "p_abnormal": 0.75}
    result.save(tmp_path / "a.csv")
    assert pd.read_csv(tmp_path / "a.csv")["class_name"].tolist() == ["Aortic enlargement", "Cardiomegaly"]
    values, = json.loads(result.save(tmp_path / "a.json").read_text())["images"]
    assert (values["height"], values["width"], values["probabilities"]) == (240, 300, {"p_abnormal": 0.75})
    assert values["boxes"][1]["class_name"] == "Cardiomegaly" and values["StudyInstanceUID"] == "1.2"
    shown = repr(result)
    assert shown == ("<Result a: 2 boxes from score 0.5 (Aortic enlargement 0.75, Cardiomegaly 0.50); "
                     "p_abnormal 0.75>")
    assert "flagged: view LL is lateral" in repr(result_of(status=FLAGGED, reason="view LL is lateral"))


def test_a_picture_shows_the_boxes(tmp_path):
    result = result_of()
    drawn = np.asarray(result.plot(longest=600))
    assert drawn.shape[1:] == (600, 3)
    gray = drawn.min(axis=2) == drawn.max(axis=2)
    assert not gray.all()  # boxes are in color, the image is not
    without = np.asarray(result.at(1).plot(longest=600))
    assert drawn.shape == without.shape and not np.array_equal(drawn, without)
    saved = Image.open(result.save(tmp_path / "a.png"))
    assert np.array_equal(np.asarray(saved), np.asarray(result.plot()))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(result._repr_png_()))), np.asarray(saved))
    with pytest.raises(InputError, match=r"a.tif: expected a name that ends in .png, .jpg, .jpeg, .json or"):
        result.save(tmp_path / "a.tif")
    file = model_of(Bright()).predict(tmp_path / "a.png")
    with pytest.raises(InputError, match="a.png: --out is among the originals"):
        file.save(tmp_path / "a.png")


@pytest.mark.parametrize("score, note", [
    (0.5, []), (0.75, []), (0.9, ["predicted: none from score 0.9 on (3 below)"])])
def test_a_picture_without_boxes_tells_the_threshold(score, note, monkeypatch):
    texts, strip = [], drawing.text_strip
    monkeypatch.setattr(drawing, "text_strip",
                        lambda text, *rest: (texts.append(text), strip(text, *rest))[1])
    result_of().at(score).plot()
    assert [text for text in texts if "none" in text] == note


@pytest.mark.parametrize("status, reason", [("ok", ""), (FLAGGED, "lateral"), (FAILED, "cut")])
def test_saved_values_are_those_of_a_run(tmp_path, status, reason):
    """The same JSON, and the same table but for the probabilities."""
    predictions = P((0, 0.123456789, 1 / 3, 0, 9, 9), (3, 0.2, 10, 20, 40, 80), (14, 1 / 7, 0, 0, 1, 1))
    row, columns = Status("a", "a.png", status, reason, {"StudyInstanceUID": "1.2"}, 240, 300), {"p_x": 0.75}
    result = Result(row, Input("a", "a.png", None, pixels=picture()),
                    None if status == FAILED else predictions, columns, 0.15)
    of_run = {} if status == FAILED else {"a": predictions[[1, 2]]}
    write_results(tmp_path / "S.csv", of_run, [row], None, {"a": columns})
    assert result.save(tmp_path / "a.json").read_text() == (tmp_path / "S.predictions.json").read_text()
    table, saved = (pd.read_csv(path, keep_default_na=False, dtype=str) for path in (
        tmp_path / "S.predictions.csv", result.at(0.1).save(tmp_path / "a.csv")))
    assert list(saved) == [*table, "p_x"]
    pd.testing.assert_frame_equal(saved[:1][list(table)], table)
    if status != FAILED:
        assert saved["x_min"].tolist() == ["10.0", "0.33"] and saved["score"][1] == "0.123457"
        assert result.to_dict()["no_finding"] == 1 / 7 == result.no_finding


def test_supervision_takes_a_result(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match=r"supervision is not installed; pip install supervision"):
        result_of().to_supervision()
    monkeypatch.undo()
    pytest.importorskip("supervision")
    taken = result_of().to_supervision()
    assert taken.xyxy.tolist() == [[0, 0, 9, 9], [10, 20, 40, 80]]
    assert taken.confidence.tolist() == [0.75, 0.5]
    assert taken.class_id.tolist() == [0, 3]
    assert taken.data["class_name"].tolist() == ["Aortic enlargement", "Cardiomegaly"]
    assert len(result_of().at(1).to_supervision()) == 0


def test_an_inverted_classifier_is_refused_on_a_folder_but_nothing_is_said_of_a_single_image(folder, caplog):
    """The classifier calls the images with a bright box normal."""
    for number in range(30):
        value = 255 if number % 2 else 190
        cv2.imwrite(str(folder / f"d{number}.png"), np.minimum(picture(left=number), value))

    class Inverted:
        target = Target(0, True)

        def __call__(self, image):
            return ClassifierOutput(0.1 + 0.8 * float((image > 200).sum() == 0))

    model = model_of(Bright(), classifier=Inverted())
    with pytest.raises(InputError, match="its labels are inverted"):
        list(model.predict(folder))
    assert len(list(model.predict(folder, allow_inverted=True))) == 33
    caplog.clear()
    assert model.predict(folder / "a.png").status == "ok" and not caplog.records


@pytest.mark.parametrize("source, message", [
    ([], "no detector is given, expected a checkpoint"),
    ("no.pth", "no.pth: no such file"),
    ("no.onnx", "no.onnx: no such file"),
])
def test_what_is_no_model_is_refused(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        vindr_det.load(source)


def test_a_model_moves_to_the_device_that_is_asked_for():
    built = []
    model = Model(Source("m", lambda device: built.append(device) or Models([Bright()])), "cpu")
    names = ("auto", "cpu", "CPU", "Auto", torch.device("cpu"))
    assert {model.to(name).device for name in names} == {"cpu"} and built == ["cpu"]
    assert model.to(torch.device("cuda", 1)).device == "cuda:1" and model.to("cpu").device == "cpu"
    del built[1:]
    assert model.to("cuda:1") is model and built == ["cpu", "cuda:1"]


@pytest.mark.parametrize("words, overrides, options, expected", [
    ((), (), {}, []),
    (("fit",), {}, {"out": "o", "resume": True, "strict": False, "meta": None},
     ["fit", "--out=o", "--resume"]),
    ((), {"A.B": (1, 2), "C": True}, {"weights": ["a", "b"]},
     ["A.B", "(1, 2)", "C", "True", "--weights", "a", "b"]),
    ((), ["A.B", 3], {"num_gpus": 4, "iou_thr": 0.5}, ["A.B", "3", "--num-gpus=4", "--iou-thr=0.5"]),
    ((), (), {"tta_scales": [0.8, 1.2], "seed": -1}, ["--tta-scales", "0.8", "1.2", "--seed=-1"]),
])
def test_options_become_a_command_line(words, overrides, options, expected):
    assert arguments(words, overrides, options) == expected


@pytest.mark.parametrize("command, call, argv", [
    ("train", lambda: vindr_det.train("no.yaml"), ["--config", "no.yaml"]),
    ("train", lambda: vindr_det.train("a.yaml", engine="x"), ["--config", "a.yaml", "--engine", "x"]),
    ("train", lambda: vindr_det.train("a.yaml", nope=1), ["--config", "a.yaml", "--nope=1"]),
    ("evaluate", lambda: vindr_det.evaluate("p.csv", "g.csv", by="reader", chance=True),
     ["--predictions", "p.csv", "--annotations", "g.csv", "--by", "reader", "--chance"]),
    ("convert", lambda: vindr_det.convert("nihh", "out"), ["nihh", "--out", "out"]),
    ("convert", lambda: vindr_det.convert("coco", "out"), ["coco", "--out", "out"]),
    ("fuse", lambda: vindr_det.fuse(["a.csv"], "f.csv", "m.csv"),
     ["--predictions", "a.csv", "--out", "f.csv", "--meta", "m.csv"]),
    ("predict", lambda: vindr_det.predict("no", "s.csv", weights=["w.pth"]),
     ["--images", "no", "--out", "s.csv", "--weights", "w.pth"]),
    ("gate", lambda: vindr_det.run("gate", "fitt"), ["fitt"]),
])
def test_a_functions_error_is_the_commands_line(command, call, argv, tmp_path, monkeypatch, capsys):
    from vindr_det import __main__

    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as raised:
        call()
    monkeypatch.setattr(sys, "argv", ["vindr-det", command, *argv])
    with pytest.raises(SystemExit) as left:
        __main__.main()
    line = capsys.readouterr().err.strip()
    assert left.value.code == 2 and line.startswith(f"vindr-det {command}")
    assert line.partition(": ")[2] == " ".join(str(raised.value).split())


@pytest.mark.parametrize("images, message", [
    ([], "images is an empty list"), ([""], "'': an empty path"),
    (np.zeros((5, 5)), "images of type ndarray, expected a path, or a list of paths; the predict of"),
    (["a.png", np.zeros((5, 5))], "images of type ndarray, expected a path"),
    (["a.png", Path("no.png")], "no.png: no such folder of images, nor an image"),
])
def test_images_of_the_command_are_paths(images, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").touch()
    with pytest.raises(InputError, match=message):
        vindr_det.predict(images, "s.csv", bundle="phantom")


def test_an_unknown_command_names_the_nearest():
    with pytest.raises(InputError, match="predikt: no such command; did you mean predict"):
        vindr_det.run("predikt")
