"""Our engine silently ignores no key of Detectron2's."""

import itertools

import pytest
import torch
from conftest import ROOT, TINY

from vindr_det.config import leaves
from vindr_det.detection.loading import load_config
from vindr_det.exceptions import InputError

pytestmark = pytest.mark.detectron2

#: Values that we do not honor.
REFUSED = {
    "INPUT.CROP.ENABLED": True, "INPUT.FORMAT": "L", "INPUT.MASK_FORMAT": "bitmask",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "random", "INPUT.RANDOM_FLIP": "both", "MODEL.KEYPOINT_ON": True,
    "MODEL.LOAD_PROPOSALS": True, "DATALOADER.ASPECT_RATIO_GROUPING": True, "DATALOADER.REPEAT_SQRT": False,
    "DATALOADER.REPEAT_THRESHOLD": 0.1, "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
    "DATASETS.PROPOSAL_FILES_TEST": ("a.pkl",), "DATASETS.PROPOSAL_FILES_TRAIN": ("a.pkl",),
    "FLOAT32_PRECISION": "low", "GLOBAL.HACK": 2.0, "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "all", "SOLVER.LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR",
    "TEST.AUG.ENABLED": True,
    "TEST.EXPECTED_RESULTS": [["bbox", "AP", 38.5, 0.2]], "TEST.KEYPOINT_OKS_SIGMAS": [0.1],
    "TEST.PRECISE_BN.ENABLED": True, "MODEL.META_ARCHITECTURE": "PanopticFPN",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN", "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.ROI_HEADS.NAME": "RROIHeads",
}
#: Read by nothing but what a refused key would switch on.
BEHIND_A_REFUSED_KEY = (
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_", "INPUT.CROP.", "MODEL.ANCHOR_GENERATOR.ANGLES",
    "MODEL.PANOPTIC_FPN.", "MODEL.ROI_KEYPOINT_HEAD.", "MODEL.SEM_SEG_HEAD.",
    "MODEL.ROI_BOX_HEAD.FED_LOSS_", "SOLVER.NUM_DECAYS", "TEST.AUG.", "TEST.PRECISE_BN.",
)
#: Read by Detectron2 elsewhere than in a training: its version, and what tools/predict.py predicts on.
ELSEWHERE = ("VERSION", "DATASETS.TEST", "VINDR.ENGINE")


def config(phantoms, out, name="vindr_frcnn", *more):
    return load_config(ROOT / f"configs/{name}.yaml", "detectron2", [
        *TINY, "SOLVER.AMP.ENABLED", "False", "MODEL.WEIGHTS", "", "OUTPUT_DIR", str(out),
        "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "MODEL.RESNETS.NORM", "BN",
        "MODEL.BACKBONE.FREEZE_AT", "0", "VINDR.DATA_ROOT", str(phantoms / "data"), *more])


def put(cfg, key, value):
    *path, name = key.split(".")
    for part in path:
        cfg = cfg[part]
    cfg[name] = value


@pytest.mark.parametrize("key, value", REFUSED.items())
def test_what_is_not_honored_is_refused_before_anything_is_written(phantoms, tmp_path, key, value):
    from vindr_det.detection.detectron2 import engine
    from vindr_det.detection.detectron2.trainer import VindrTrainer

    cfg = config(phantoms, tmp_path / "out")
    put(cfg, key, value)
    for start in (engine.train, VindrTrainer):
        with pytest.raises(InputError, match=key.replace(".", r"\.") + " is "):
            start(cfg)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["INPUT.CROP.ENABLED", "INPUT.MASK_FORMAT", "MODEL.KEYPOINT_ON"])
def test_our_mapper_in_other_trainers_refuses_too(phantoms, tmp_path, key):
    from vindr_det.detection.detectron2 import VindrMapper

    cfg = config(phantoms, tmp_path)
    put(cfg, key, REFUSED[key])
    with pytest.raises(InputError, match=f"{key} is "):
        VindrMapper(cfg, is_train=True)


def spied(cfg, seen):
    """The config, with every key that is read from it noted in ``seen``."""
    from detectron2.config import CfgNode

    class Spy(CfgNode):
        def _note(self, key):
            if key in self:
                seen.add(f"{self.__dict__.get('prefix', '')}{key}")

        def __getattr__(self, key):
            self._note(key)
            return super().__getattr__(key)

        def __getitem__(self, key):
            self._note(key)
            return super().__getitem__(key)

        def __deepcopy__(self, memo):
            return make(self, self.__dict__.get("prefix", ""))

    def make(node, prefix):
        spy = Spy({})
        spy.__dict__["prefix"] = prefix
        for key, value in node.items():
            inner = make(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else value
            dict.__setitem__(spy, key, inner)
        return spy

    return make(cfg, "")


@pytest.mark.slow
def test_every_other_key_is_read_by_a_training(phantoms, tmp_path, monkeypatch):
    """A key that nothing reads is certainly ignored, so that a new key must be read somewhere."""
    from detectron2.config import get_cfg

    from vindr_det.detection.detectron2 import engine

    seen: set[str] = set()
    variants = [
        ("vindr_mrcnn", "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.CLIP_GRADIENTS.ENABLED", "True",
         "SOLVER.REFERENCE_WORLD_SIZE", "1", "VINDR.ROI_FOCAL_GAMMA", "1", "VINDR.MIN_READERS", "2"),
        ("vindr_cascade", "SOLVER.NESTEROV", "True"),
        ("vindr_retinanet", "SOLVER.MOMENTUM", "0.8"),
        ("vindr_frcnn", "MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "VINDR.TIMM_MODEL", "resnet10t",
         "VINDR.OPTIMIZER", "AdamW", "SOLVER.AMP.ENABLED", "True", "VINDR.AMP_DTYPE", "bfloat16"),
    ]
    for number, (name, *more) in enumerate(variants):
        cfg = config(phantoms, tmp_path / str(number), name, "SOLVER.MAX_ITER", "1", *more)
        engine.train(spied(cfg, seen))
    expected = {key for key, _ in leaves(get_cfg())} | {f"VINDR.{key}" for key in cfg.VINDR}
    excused = [key for key in expected if key.startswith(BEHIND_A_REFUSED_KEY)]
    assert sorted(expected - seen - set(excused) - set(ELSEWHERE)) == []


def test_settings_of_the_machine_are_obeyed(phantoms, tmp_path, monkeypatch):
    from vindr_det.detection.detectron2 import engine

    class Enough(Exception):
        pass

    def stop(*_):
        raise Enough

    monkeypatch.setattr(engine, "VindrTrainer", stop)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, torch.get_float32_matmul_precision(), cudnn.allow_tf32
    try:
        for benchmark, precision in itertools.product((True, False), ("highest", "medium")):
            cfg = config(phantoms, tmp_path, "vindr_frcnn", "CUDNN_BENCHMARK", str(benchmark),
                         "FLOAT32_PRECISION", precision)
            with pytest.raises(Enough):
                engine.train(cfg)
            assert cudnn.benchmark is benchmark
            assert torch.get_float32_matmul_precision() == precision
            assert cudnn.allow_tf32 is (precision != "highest")
    finally:
        cudnn.benchmark, precision, cudnn.allow_tf32 = before
        torch.set_float32_matmul_precision(precision)


def test_adamw_honors_what_sgd_does_of_biases(phantoms, tmp_path):
    from vindr_det.detection.detectron2.trainer import VindrTrainer

    for optimizer in ("SGD", "AdamW"):
        cfg = config(phantoms, tmp_path, "vindr_frcnn", "VINDR.OPTIMIZER", optimizer,
                     "SOLVER.BIAS_LR_FACTOR", "2.0")
        cfg.SOLVER.WEIGHT_DECAY_BIAS = 0.25
        model = VindrTrainer.build_model(cfg)
        groups = VindrTrainer.build_optimizer(cfg, model).param_groups
        bias = model.roi_heads.box_predictor.cls_score.bias
        [group] = [group for group in groups if any(parameter is bias for parameter in group["params"])]
        assert group["lr"] == 2 * cfg.SOLVER.BASE_LR and group["weight_decay"] == 0.25


def test_a_schedule_that_detectron2_lacks_is_ours(phantoms, tmp_path):
    from vindr_det.detection.detectron2.trainer import VindrTrainer
    from vindr_det.training.schedule import ScheduleOptions, factor_of_step

    cfg = config(phantoms, tmp_path, "vindr_frcnn", "SOLVER.MAX_ITER", "8", "SOLVER.WARMUP_ITERS", "2")
    cfg.SOLVER.LR_SCHEDULER_NAME = "cosine"
    model = torch.nn.Linear(1, 1)
    optimizer = VindrTrainer.build_optimizer(cfg, model)
    scheduler = VindrTrainer.build_lr_scheduler(cfg, optimizer)
    factor = factor_of_step("cosine", ScheduleOptions.from_config(cfg))
    for step in range(8):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(cfg.SOLVER.BASE_LR * factor(step))
        optimizer.step()
        scheduler.step()
