"""Detectors of any label set: both engines train, validate, save, predict and resume; what is refused."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from conftest import DEMO, TINIEST, of_another_label_set

from vindr_det.data.coco import read_coco
from vindr_det.detection import engine as engines
from vindr_det.detection.loading import load_checkpoint, load_config
from vindr_det.detection.predictors import load_predictors
from vindr_det.exceptions import InputError
from vindr_det.imaging.read import read_image
from vindr_det.structures.label_sets import NIH_BOXES, VINDR_CXR, LabelSet
from vindr_det.training.checkpoint_io import read_file

OWN = LabelSet("devices", ("Pacemaker", "Tube"))


@pytest.fixture(scope="module")
def annotated(phantoms, tmp_path_factory):
    """``annotated(label_set)``: the phantoms' annotations, their boxes as findings of another set."""
    root = tmp_path_factory.mktemp("label_sets")

    def make(label_set):
        data = root / label_set.name.replace(" ", "_")
        if not data.exists():
            of_another_label_set(phantoms / "data/annotations", data / "annotations", label_set)
        return data

    return make


def config(engine, phantoms, data, out, label_set, *more):
    own = ["VINDR.FINDINGS", repr(label_set.findings)] if label_set is OWN else []
    return load_config(DEMO, engine, [
        *TINIEST, "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "VINDR.LABEL_SET", label_set.name, *own,
        "VINDR.DATA_ROOT", str(data), "VINDR.IMAGE_ROOT", str(phantoms / "data"), "OUTPUT_DIR", str(out),
        *more])


@pytest.mark.parametrize("label_set", [OWN, pytest.param(NIH_BOXES, marks=pytest.mark.slow),
                                       pytest.param(VINDR_CXR, marks=pytest.mark.slow)], ids=lambda s: s.name)
def test_a_label_set_trains_predicts_and_resumes(engine, phantoms, annotated, tmp_path, label_set):
    data = annotated(label_set)
    assert read_coco(data / "annotations/instances_all.json")[0].label_set.findings == label_set.findings
    cfg = config(engine, phantoms, data, tmp_path, label_set)
    engines.load(engine).train(cfg)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    merged = {key: value for line in lines for key, value in line.items()}
    assert math.isfinite(merged["voc/mAP40"]) and math.isfinite(merged["validation_loss"])
    names = {key.removeprefix("voc/AP40/") for key in merged if key.startswith("voc/AP40/")}
    assert names and names <= set(label_set.classes) and "vindr/mAP40" not in merged
    meta = read_file(tmp_path / "model_best.pth")["vindr"]
    assert meta["label_set"] == label_set.name and tuple(meta["classes"]) == label_set.findings
    detections = load_predictors([tmp_path / "model_final.pth"])[0](
        [read_image(next((phantoms / "raw/test").iterdir())).pixels])[0]
    assert detections.label_set == cfg_label_set(label_set) and (detections.labels < len(label_set)).all()
    engines.load(engine).train(config(engine, phantoms, data, tmp_path, label_set, "SOLVER.MAX_ITER", "2"),
                               resume=True)
    assert load_checkpoint(tmp_path / "model_final.pth").iteration == 2


def cfg_label_set(label_set):
    return LabelSet(label_set.name, label_set.findings) if label_set is OWN else label_set


def test_annotations_of_another_set_are_refused(engine, phantoms, tmp_path):
    cfg = config(engine, phantoms, phantoms / "data", tmp_path, OWN)
    with pytest.raises(InputError, match="has the findings of VinBigData, but VINDR.LABEL_SET is devices"):
        engines.load(engine).train(cfg)


def test_detectors_of_two_sets_do_not_predict_together(engine, trained, tmp_path, phantoms):
    from conftest import network_of

    from vindr_det.detection.checkpoint import metadata

    cfg = config(engine, phantoms, phantoms / "data", tmp_path, NIH_BOXES)
    weights = network_of(engine, cfg).state_dict()
    torch.save({"model": weights, "vindr": metadata(cfg, 1, {})}, tmp_path / "w.pth")
    assert load_predictors([tmp_path / "w.pth"])[0].label_set is NIH_BOXES
    with pytest.raises(InputError, match=r"detectors .*w.pth: label sets VinBigData and NIH boxes, exp"):
        load_predictors([trained(engine) / "model_best.pth", tmp_path / "w.pth"])


@pytest.mark.detectron2
def test_detectron2s_catalog_has_the_label_set(phantoms, annotated):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from vindr_det.detection.detectron2 import VindrEvaluator, register_datasets

    name = "vindr_val_fold0"
    register_datasets(annotated(OWN), [name], phantoms / "data", OWN)
    assert MetadataCatalog.get(name).thing_classes == list(OWN.findings)
    records = VindrEvaluator.from_catalog(name).records.values()
    assert {record.label_set for record in records} == {OWN} and len(records) == 8
    register_datasets(annotated(OWN), [name], phantoms / "data")  # as VinBigData's
    with pytest.raises(InputError, match="has the findings of devices, but label_set of register_datasets is "
                                         r"VinBigData; expected the same \(class 0 is 'Pacemaker', expected "
                                         "'Aortic enlargement'"):
        DatasetCatalog.get(name)
    register_datasets(phantoms / "data", [name])
    evaluator = VindrEvaluator.from_catalog(name)
    image = next(iter(evaluator.records))
    with pytest.raises(InputError, match=f"^{image}: a detection of class 79, expected one of the 14 finding"
                                         "s of VinBigData; is NUM_CLASSES of the model 14"):
        evaluator.process([{"image_id": image}], [{"instances": SimpleNamespace(
            image_size=(9, 9), pred_classes=torch.tensor([3, 79]))}])
    assert next(iter(VindrEvaluator.from_catalog(name).records.values())).label_set.name == "VinBigData"
