"""Networks compute in half precision; anchors, proposals, true boxes and losses stay in float32."""

import pytest
import torch
from conftest import DEMO, ROOT, TINY, network_of

from vindr_det.detection import engine as engines
from vindr_det.detection.loading import load_checkpoint, load_config

#: Architecture -> config.
CONFIGS = {"faster": DEMO, "mask": DEMO, "retinanet": ROOT / "configs/vindr_retinanet.yaml",
           "fcos": ROOT / "configs/vindr_fcos.yaml"}
LARGE = ["INPUT.MIN_SIZE_TRAIN", "(256,)", "INPUT.MAX_SIZE_TRAIN", "1024", "INPUT.MIN_SIZE_TEST", "256",
         "INPUT.MAX_SIZE_TEST", "1024"]


def passed_on(network, architecture, dtype, targets):
    """The boxes that the parts of a torchvision network pass on in a training step, and the losses."""
    notes = {}

    def note(key, value):
        notes.setdefault(key, [part.detach() for part in value])

    hooks = [part.register_forward_hook(lambda _, __, out: note("anchors", out))
             for name, part in network.named_modules() if name.endswith("anchor_generator")]
    if architecture in ("faster", "mask"):
        heads = network.roi_heads
        hooks.append(heads.box_roi_pool.register_forward_pre_hook(lambda _, given: note("rois", given[1])))
        assign = heads.assign_targets_to_proposals
        heads.assign_targets_to_proposals = lambda proposals, boxes, labels: (
            note("truth", boxes), assign(proposals, boxes, labels))[1]
    torch.manual_seed(0)
    images = [torch.rand(3, 256, 1000) * 255 for _ in targets]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses = network(images, targets)
    for hook in hooks:
        hook.remove()
    return notes, losses


@pytest.mark.parametrize("architecture", CONFIGS)
def test_no_box_is_rounded_in_training(architecture, phantoms):
    from vindr_det.detection.torchvision.model import first_label

    more = ["MODEL.MASK_ON", "True", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8"] if architecture == "mask" else []
    cfg = load_config(CONFIGS[architecture], "torchvision", [
        *TINY, *LARGE, *more, "MODEL.WEIGHTS", "", "MODEL.FPN.OUT_CHANNELS", "32"])
    torch.manual_seed(0)
    network = network_of("torchvision", cfg).train()
    boxes = torch.tensor([[101.3, 23.7, 333.1, 211.9], [611.2, 17.3, 977.7, 203.1]])
    target = {"boxes": boxes, "labels": torch.tensor([0, 3]) + first_label(cfg), "weights": torch.ones(2)}
    if architecture == "mask":
        target["masks"] = torch.ones((2, 256, 1000), dtype=torch.uint8)
    full, _ = passed_on(network, architecture, torch.float32, [target])
    half, losses = passed_on(network, architecture, torch.bfloat16, [target])
    assert full.keys() == half.keys() and "anchors" in full
    for key in full:
        assert all(part.dtype == torch.float32 for part in half[key]), key
    for key in {"anchors", "truth"} & full.keys():  # the largest shift is 0
        assert all(torch.equal(*pair) for pair in zip(full[key], half[key], strict=True)), key
    if "rois" in half:
        assert half["rois"][0].ne(half["rois"][0].bfloat16().float()).float().mean() > 0.5
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("architecture", ["faster", "retinanet", "fcos"])
def test_boxes_lie_on_no_grid(architecture, phantoms):
    """bfloat16 has 256, 258, 260 ... and 512, 516, 520 ...; boxes lie between them, too."""
    from vindr_det.detection.torchvision.predictor import TorchvisionPredictor

    cfg = load_config(CONFIGS[architecture], "torchvision", [
        *TINY, *LARGE, "MODEL.WEIGHTS", "", "MODEL.FPN.OUT_CHANNELS", "32", "SOLVER.AMP.ENABLED", "True",
        "VINDR.AMP_DTYPE", "bfloat16", "VINDR.IMAGE_SIZE", "0", "MODEL.RETINANET.SCORE_THRESH_TEST", "0",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0"])
    torch.manual_seed(0)
    predictor = TorchvisionPredictor(cfg, network_of("torchvision", cfg).state_dict())
    image = torch.randint(0, 255, (256, 1000), dtype=torch.uint8).numpy()
    coordinates = torch.from_numpy(predictor([image])[0].boxes).float()
    inner = coordinates[(coordinates > 257) & (coordinates < 999)]
    assert len(inner) > 20 and inner.ne(inner.bfloat16().float()).float().mean() > 0.6  # FCOS has zeros, too


@pytest.mark.detectron2
def test_detectron2_pools_where_the_proposals_are():
    """The features of a region in half precision are those of the region, not of the rounded one."""
    cfg = load_config(DEMO, "detectron2", TINY)
    pooler = network_of("detectron2", cfg).roi_heads.box_pooler
    ramp = (torch.arange(256.0) / 256).expand(1, 1, 256, 256).contiguous()
    from detectron2.structures import Boxes

    features = [ramp[..., ::step, ::step] for step in (1, 2, 4, 8)]
    boxes = [Boxes(torch.tensor([[601.7, 602.3, 632.2, 633.4], [900.9, 900.1, 955.3, 957.5]]))]
    full = pooler(features, boxes)
    half = pooler([part.bfloat16() for part in features], boxes)
    assert half.dtype == torch.bfloat16
    # 4 px at a stride of 4 are one cell of 1 / 256; bfloat16 itself rounds values below 1 by 1 / 512.
    assert (full - half.float()).abs().max() <= 1 / 300


def test_validation_computes_in_the_precision_of_training(engine, trained, phantoms, tmp_path, monkeypatch):
    """The metrics of a half-precision training are those of its weights in half precision."""
    cfg = load_checkpoint(trained(engine) / "model_final.pth").cfg
    cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER, cfg.TEST.EVAL_PERIOD = str(tmp_path), 1, 0
    cfg.SOLVER.STEPS, cfg.SOLVER.AMP.ENABLED, cfg.VINDR.AMP_DTYPE = (), True, "bfloat16"
    types = set()

    def note(module, given, output):
        types.add(output.dtype)

    hooked = torch.nn.modules.module.register_module_forward_hook(
        lambda module, given, output: note(module, given, output)
        if isinstance(module, torch.nn.Linear) else None)
    try:
        engines.load(engine).train(cfg)
        assert types == {torch.bfloat16}
        types.clear()
        checkpoint = load_checkpoint(tmp_path / "model_final.pth")
        metrics = engines.load(engine).evaluate(cfg, checkpoint.state)
    finally:
        hooked.remove()
    assert types == {torch.bfloat16}
    for key, value in checkpoint.metrics.items():
        assert metrics.get(key, value) == pytest.approx(value, abs=1e-6), key
