"""The loss options of the box head, by hand and through both engines."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import DEMO, TINIEST, network_of

from vindr_det.data.splits import training_records
from vindr_det.detection import engine as engines
from vindr_det.detection.loading import load_config
from vindr_det.detection.roi_losses import box_loss, classification_loss
from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions
from vindr_det.training.checkpoint_io import read_file


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_classification_loss_by_hand(gamma):
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5], [0.0, 30.0, 0.0]])
    labels, weights = torch.tensor([0, 2, 1]), torch.tensor([1.0, 0.5, 2.0])
    expected = 0.0
    for row, label, weight in zip(logits.tolist(), labels.tolist(), weights.tolist(), strict=True):
        p = math.exp(row[label]) / sum(math.exp(x) for x in row)
        expected -= weight * (1 - p) ** gamma * math.log(p) / 3
    assert float(classification_loss(logits, labels, weights, gamma)) == pytest.approx(expected, abs=1e-6)


def test_the_gradient_of_a_certain_proposal_is_a_number():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    classification_loss(logits, torch.tensor([0]), torch.ones(1), 0.5).backward()
    assert torch.isfinite(logits.grad).all()


def test_no_proposal_costs_nothing():
    nothing = torch.zeros(0)
    assert classification_loss(torch.zeros(0, 15), nothing.long(), nothing, 2.0) == 0
    assert box_loss(torch.zeros(0, 4), torch.zeros(0, 4), nothing, 0.1, 0) == 0


def test_box_loss_by_hand():
    deltas = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.05, 0.0, 0.0, 0.0]])
    loss = box_loss(deltas, torch.zeros(2, 4), torch.tensor([1.0, 0.5]), 0.1, 8)
    assert float(loss) == pytest.approx(((1 - 0.05) + 0.5 * 0.5 * 0.05**2 / 0.1) / 8)


def losses_of(engine, cfg, items):
    """A new model's losses on the images, with the same random numbers each time."""
    torch.manual_seed(0)
    if engine == "detectron2":
        from detectron2.utils.events import EventStorage

        from vindr_det.detection.detectron2 import VindrMapper, to_dicts

        model, mapper = network_of(engine, cfg), VindrMapper(cfg, is_train=False, keep_truth=True)
        batch = [mapper(item) for item in to_dicts(items)]
        torch.manual_seed(1)
        with EventStorage():
            losses = model(batch)
        return losses["loss_cls"].item(), losses["loss_box_reg"].item()
    from vindr_det.detection.torchvision.data import RecordDataset, collate

    model, dataset = network_of(engine, cfg), RecordDataset.from_config(cfg, items, is_train=False)
    images, targets, _ = collate([dataset[row] for row in range(len(dataset))])
    torch.manual_seed(1)
    losses = model(images, targets)
    return losses["loss_classifier"].item(), losses["loss_box_reg"].item()


@pytest.fixture
def half_agreed(phantoms):
    """Four abnormal images and a normal one; half of the readers drew each box."""
    cfg = load_config(DEMO, "torchvision", [*TINIEST, "VINDR.DATA_ROOT", str(phantoms / "data")])
    items = training_records(cfg)
    chosen = [i for i in items if not i[0].normal][:4] + [i for i in items if i[0].normal][:1]
    return [(replace(record, truth=Predictions(record.truth.boxes, record.truth.scores * 0 + 0.5,
                                               record.truth.labels)), folder) for record, folder in chosen]


def with_options(engine, phantoms, gamma, power):
    return load_config(DEMO, engine, [
        *TINIEST, "VINDR.DATA_ROOT", str(phantoms / "data"), "VINDR.ROI_FOCAL_GAMMA", str(gamma),
        "VINDR.AGREEMENT_POWER", str(power)])


def test_without_options_the_losses_are_the_engines_own(engine, phantoms, half_agreed):
    own = losses_of(engine, with_options(engine, phantoms, 0, 0), half_agreed)
    ours = losses_of(engine, with_options(engine, phantoms, 1e-12, 0), half_agreed)
    assert ours == pytest.approx(own, abs=1e-6)
    assert own[1] > 0


def test_boxes_weigh_as_their_readers_agree(engine, phantoms, half_agreed):
    """All boxes have a share of 1/2, so power 2 leaves a quarter of the boxes' loss."""
    whole = losses_of(engine, with_options(engine, phantoms, 0, 0), half_agreed)
    quarter = losses_of(engine, with_options(engine, phantoms, 0, 2), half_agreed)
    nothing = losses_of(engine, with_options(engine, phantoms, 0, 60), half_agreed)
    assert quarter[1] == pytest.approx(whole[1] / 4, rel=1e-5)
    assert nothing[1] == pytest.approx(0, abs=1e-12)
    # What is left of the classification's loss is the background's, which keeps its weight.
    share = (whole[0] - quarter[0]) / (whole[0] - nothing[0])
    assert share == pytest.approx(0.75, rel=1e-4) and nothing[0] > 0


def test_hard_proposals_count_more(engine, phantoms, half_agreed):
    plain = losses_of(engine, with_options(engine, phantoms, 0, 0), half_agreed)
    focal = losses_of(engine, with_options(engine, phantoms, 2, 0), half_agreed)
    assert 0 < focal[0] < plain[0]
    assert focal[1] == pytest.approx(plain[1], rel=1e-5)


@pytest.mark.parametrize("options", [
    ["VINDR.ROI_FOCAL_GAMMA", "2", "VINDR.AGREEMENT_POWER", "1", "MODEL.MASK_ON", "True"],
    ["SOLVER.AMP.ENABLED", "True", "VINDR.AMP_DTYPE", "bfloat16"],
    ["SOLVER.AMP.ENABLED", "True", "VINDR.AMP_DTYPE", "bfloat16", "VINDR.ROI_FOCAL_GAMMA", "2",
     "VINDR.AGREEMENT_POWER", "1"],
    ["VINDR.OPTIMIZER", "AdamW", "SOLVER.BASE_LR", "0.0001", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"],
], ids=["focal_and_agreement", "bfloat16", "focal_and_agreement_in_bfloat16", "adamw"])
def test_trainings_with_options(engine, phantoms, tmp_path, options):
    cfg = load_config(DEMO, engine, [
        *TINIEST, "SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "0", *options, "OUTPUT_DIR", str(tmp_path),
        "VINDR.DATA_ROOT", str(phantoms / "data")])
    engines.load(engine).train(cfg)
    state = read_file(tmp_path / "model_final.pth")["model"]
    assert all(torch.isfinite(value).all() and value.dtype != torch.bfloat16 for value in state.values())


@pytest.mark.parametrize("key, value, more", [
    ("ROI_FOCAL_GAMMA", "2", ["MODEL.META_ARCHITECTURE", "RetinaNet"]),
    ("AGREEMENT_POWER", "-1", []), ("OPTIMIZER", "Lion", []), ("AMP_DTYPE", "float8", []),
])
def test_options_that_do_not_fit_are_refused(engine, phantoms, key, value, more):
    def build():
        cfg = load_config(DEMO, engine, [*TINIEST, f"VINDR.{key}", value, *more,
                                         "MODEL.RETINANET.NUM_CLASSES", "14",
                                         "VINDR.DATA_ROOT", str(phantoms / "data")])
        losses_of(engine, cfg, [])

    with pytest.raises(InputError, match=f"{key} is '?{value}"):
        build()


def test_weights_by_agreement_need_annotations_with_readers(phantoms, tmp_path):
    """A COCO file of another tool has no readers: the key would have no effect."""
    shutil.copytree(phantoms / "data", tmp_path / "data")
    for path in (tmp_path / "data/annotations").glob("instances_*.json"):
        content = json.loads(path.read_text())
        for annotation in content["annotations"]:
            annotation.pop("agreement")
            annotation.pop("readers")
        path.write_text(json.dumps(content))
    cfg = load_config(DEMO, "torchvision", [*TINIEST, "VINDR.DATA_ROOT", str(tmp_path / "data"),
                                            "VINDR.AGREEMENT_POWER", "1"])
    with pytest.raises(InputError, match="VINDR.AGREEMENT_POWER is 1.0, but the annotations do not name"):
        training_records(cfg)
