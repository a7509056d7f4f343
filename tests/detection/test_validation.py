from dataclasses import replace

import numpy as np
import pytest
from conftest import DEMO

from vindr_det.data.splits import loss_records, training_records, validation_records
from vindr_det.detection.loading import load_config
from vindr_det.detection.validation import LossMeans, validation_metrics
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH_BOXES
from vindr_det.structures.records import Record


def test_means_by_hand_and_over_ranks():
    first, second = LossMeans(), LossMeans()
    first.add({"loss_cls": 1.0, "loss_box": 2.0}, 3, normal=False)
    first.add({"loss_cls": 0.5}, 1, normal=True)
    second.add({"loss_cls": 5.0, "loss_box": 0.0}, 1, normal=False)
    assert LossMeans.merged([first.parts(), second.parts()]).means() == pytest.approx({
        "validation_loss": (1 * 3 + 5 + 0.5) / 5 + 6 / 5,
        "validation_loss_cls": 8.5 / 5, "validation_loss_box": 6 / 5,
        "validation_normal/loss": 0.5, "validation_normal/loss_cls": 0.5,
        "validation_abnormal/loss": 8 / 4 + 6 / 4, "validation_abnormal/loss_cls": 2.0,
        "validation_abnormal/loss_box": 1.5,
    })


def test_a_prefix_without_images_has_no_means():
    means = LossMeans()
    assert means.means() == {}
    means.add({"loss": 1.0}, 2, normal=True)
    assert not any("abnormal" in key for key in means.means())


def test_the_loss_is_over_the_same_share_of_normal_images_as_training(phantoms):
    from itertools import islice

    from vindr_det.training.sampler import training_order

    cfg = load_config(DEMO, "torchvision", ["VINDR.DATA_ROOT", str(phantoms / "data"),
                                            "VINDR.NORMAL_RATIO", "0.5"])
    records = [record for record, _ in training_records(cfg)]
    epoch = sum(not record.normal for record in records) * 3 // 2
    trained = [records[sample_key.row] for sample_key in islice(training_order(cfg, records, 0, 1, 0), epoch)]
    for chosen in (trained, [record for record, _ in loss_records(cfg)]):
        normal = sum(record.normal for record in chosen)
        assert normal == round(0.5 * (len(chosen) - normal)) > 0
    assert len(validation_records(cfg)) == 8 > len(loss_records(cfg))
    ids = [[record.image_id for record, _ in loss_records(cfg)] for _ in range(2)]
    assert ids[0] == ids[1]


def test_torchvisions_validation_loss_by_hand(phantoms):
    """The model's own losses on the same images, and neither batch norm nor random numbers move."""
    import torch

    from vindr_det.detection.torchvision.data import validation_loader
    from vindr_det.detection.torchvision.model import set_sizes
    from vindr_det.detection.torchvision.train import _module

    cfg = load_config(DEMO, "torchvision", ["VINDR.DATA_ROOT", str(phantoms / "data"),
                                            "VINDR.NORMAL_RATIO", "-1", "SOLVER.IMS_PER_BATCH", "3"])
    torch.manual_seed(0)
    module = _module(cfg)
    before = {key: value.clone() for key, value in module.network.state_dict().items()}
    numbers = torch.random.get_rng_state()
    metrics = module.validate(validation_loader(cfg, 0, 1))
    assert torch.equal(numbers, torch.random.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in module.network.state_dict().items())
    network, total, images = module.network, 0.0, 0
    set_sizes(network, cfg, training=False)
    network.train()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()
    with torch.no_grad():
        for pixels, targets, _ in validation_loader(cfg, 0, 1):
            torch.manual_seed(0)
            for normal in (False, True):
                rows = [i for i, t in enumerate(targets) if (len(t["boxes"]) == 0) == normal]
                if rows:
                    losses = network([pixels[i] for i in rows], [targets[i] for i in rows])
                    total += float(sum(losses.values())) * len(rows)
                    images += len(rows)
    assert images == 8 and metrics["validation_loss"] == pytest.approx(total / images, abs=1e-5)


@pytest.mark.exhaustive
def test_validation_loss_rises_where_a_detector_overfits(engine, phantoms, tmp_path):
    """Six images in 133 epochs: the training loss keeps falling, the validation loss rises again."""
    import json

    from conftest import TINY

    from vindr_det.detection import engine as engines

    cfg = load_config(DEMO, engine, [
        *TINY, "OUTPUT_DIR", str(tmp_path), "VINDR.DATA_ROOT", str(phantoms / "data"), "VINDR.NORMAL_RATIO",
        "0", "VINDR.AUGMENT", "[]", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "200",
        "SOLVER.WARMUP_ITERS", "20", "VINDR.OPTIMIZER", "AdamW", "SOLVER.BASE_LR", "0.001",
        "SOLVER.CHECKPOINT_PERIOD", "1000", "TEST.EVAL_PERIOD", "40"])
    assert len(training_records(cfg)) == 6
    engines.load(engine).train(cfg)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    training = [line["total_loss"] for line in lines if "total_loss" in line]
    validation = [line["validation_abnormal/loss"] for line in lines if "validation_abnormal/loss" in line]
    assert training[-1] < 0.5 * training[1]
    assert validation[-1] > 1.1 * min(validation)


def test_a_validation_leaves_images_out_for_unknown_findings():
    """NIH's set has no class for "no finding": one finding is found; the box on b may be right."""
    box = np.array([[10.0, 10, 60, 60]])
    effusion = Predictions(box, np.ones(1), np.array([2]), NIH_BOXES)
    nothing = Predictions(label_set=NIH_BOXES)
    predictions = {"a": Predictions(box, np.array([0.4]), np.array([2]), NIH_BOXES),
                   "b": Predictions(box, np.array([0.9]), np.array([2]), NIH_BOXES)}
    known = [Record("a", "a.png", 100, 100, effusion), Record("b", "b.png", 100, 100, nothing)]
    unknown = [known[0], replace(known[1], unknown=(2,))]
    for records, expected in ((known, 0.5), (unknown, 1)):
        values = validation_metrics(predictions, records)
        assert values["voc/mAP40"] == values["voc/AP40/Effusion"] == expected
        assert values["coco/AP50"] == pytest.approx(expected) and "vindr/mAP40" not in values
