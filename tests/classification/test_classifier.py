import json

import pandas as pd
import pytest
import torch
from conftest import classifier_config as config

from vindr_det.classification.model import build_model
from vindr_det.classification.predict import Classifier
from vindr_det.classification.train import train
from vindr_det.exceptions import InputError
from vindr_det.imaging.read import read_image


def test_all_folds_give_every_image_one_out_of_fold_prediction(phantoms, tmp_path):
    metrics = train(config(phantoms, tmp_path))
    table = pd.read_csv(tmp_path / "oof_predictions.csv")
    assert len(table) == 24 and table["image_id"].is_unique
    assert table["p_abnormal"].between(0, 1).all()
    assert {"auc", "ap", "auc/p_abnormal", "auc/fold0", "auc/fold1", "auc/fold2"} <= set(metrics)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    classifier = Classifier(tmp_path)
    assert len(classifier.models) == 3
    assert 0 <= classifier(read_image(next((phantoms / "raw/test").iterdir())).pixels).p_abnormal <= 1


def test_a_saved_model_predicts_what_it_predicted(phantoms, tmp_path):
    train(config(phantoms, tmp_path), [1])
    classifier = Classifier(tmp_path)
    table = pd.read_csv(tmp_path / "oof_predictions.csv")
    for image_id, expected in zip(table["image_id"], table["p_abnormal"], strict=True):
        image = read_image(phantoms / f"data/train/{image_id}.png").pixels
        assert classifier(image).p_abnormal == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("more, message", [
    (["MODEL.NAME", "resnet18x"], "timm has no such network; did you mean resnet18"),
    (["MODEL.OUTPUT_STRIDE", "5"], "MODEL.NAME test_resnet with POOL '' and OUTPUT_STRIDE 5: ."),
    (["SOLVER.EPOCH", "3"], "key SOLVER.EPOCH does not exist.*EPOCHS"),
    (["SOLVER.EPOCHS", "0"], "SOLVER.EPOCHS is 0, expected 1 or more"),
    (["SOLVER.BATCH_SIZE", "1"], "SOLVER.BATCH_SIZE is 1, expected 2 or more .* batch norm"),
    (["DATA.LABELS", "nowhere.csv"], "no such file"),
])
def test_bad_configs(phantoms, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        train(config(phantoms, tmp_path, *more))


def test_unknown_fold_and_empty_folder(phantoms, tmp_path):
    with pytest.raises(InputError, match="--fold 9"):
        train(config(phantoms, tmp_path), [9])
    with pytest.raises(InputError, match=r"holds no fold\*.pth"):
        Classifier(tmp_path)


def test_a_classifier_on_a_missing_device(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="--device is cuda:1: this machine has 1 GPUs"):
        Classifier(tmp_path, device="cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="--device is cuda, but this machine has no usable GPU"):
        Classifier(tmp_path, device="cuda")


def test_imagenet_weights_from_a_local_file_and_without_network(phantoms, tmp_path, monkeypatch):
    import timm

    torch.manual_seed(3)
    source = timm.create_model("resnet18", in_chans=1, num_classes=1).state_dict()
    torch.save(source, tmp_path / "w.pth")
    options = ["MODEL.NAME", "resnet18", "MODEL.PRETRAINED", "True", "MODEL.WEIGHTS", str(tmp_path / "w.pth")]
    model = build_model(config(phantoms, tmp_path, *options))
    assert torch.equal(model.state_dict()["conv1.weight"], source["conv1.weight"])

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(InputError, match="set MODEL.WEIGHTS to a local file"):
        build_model(config(phantoms, tmp_path, "MODEL.PRETRAINED", "True"))


def test_a_classifier_of_findings_tells_a_gate_all_it_knows(phantoms, tmp_path):
    train(config(phantoms, tmp_path, "DATA.TARGET", "vindr15"), [1])
    classifier = Classifier(tmp_path)
    image = read_image(next((phantoms / "raw/test").iterdir())).pixels
    values = dict(zip(classifier.columns, classifier.probabilities([image])[0], strict=True))
    output = classifier(image)
    assert output.p_abnormal == pytest.approx(1 - values["p_no_finding"])
    assert output.findings[10] == pytest.approx(values["p_pleural_effusion"])
    assert output.findings.shape == (14,)


def test_pooling_and_the_stride_of_features(phantoms, tmp_path):
    import torch

    from vindr_det.classification.model import build_model

    plain, fine = (build_model(config(phantoms, tmp_path, *more)).eval() for more in (
        (), ("MODEL.POOL", "max", "MODEL.OUTPUT_STRIDE", "16")))
    image = torch.rand(1, 1, 64, 64)
    assert plain.forward_features(image).shape[2:] == (2, 2)
    features = fine.forward_features(image)
    assert features.shape[2:] == (4, 4)
    assert torch.allclose(fine(image), fine.fc(features.amax(dim=(2, 3))))
