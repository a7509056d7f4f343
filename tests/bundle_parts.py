"""Checkpoints of small detectors with random weights, for bundles."""

import torch
from conftest import DEMO, TINY, network_of

from vindr_det.detection.checkpoint import metadata
from vindr_det.detection.loading import load_config

SMALL = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "VINDR.TIMM_MODEL", "test_resnet",
         "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.FPN.OUT_CHANNELS", "16"]
NIH = ["VINDR.LABEL_SET", "NIH boxes", "MODEL.ROI_HEADS.NUM_CLASSES", "8"]


def save_detector(path, engine, seed, *more):
    """A checkpoint of random weights, whose scores differ from box to box."""
    cfg = load_config(DEMO, engine, [*TINY, "OUTPUT_DIR", str(path.parent), *SMALL,
                                     "VINDR.DATA_ROOT", str(path.parent / "data"),
                                     "VINDR.PACKED", str(path.parent / "packed.npy"), *more])
    torch.manual_seed(seed)
    network = network_of(engine, cfg)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "box_predictor" in name:
                parameter.normal_(std=0.05)
    torch.save({"model": network.state_dict(), "vindr": metadata(cfg, 7, {"vindr/mAP40": 0.5})}, path)
    return path
