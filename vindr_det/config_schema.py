"""Configs of detectors: the keys that this project adds, their defaults, and what values keys may take."""

import math
from collections.abc import Mapping
from typing import Any

from vindr_det.config_values import (
    DEVICE,
    FOLDER,
    LOGGER_NAMES,
    PART,
    SHARE,
    Check,
    above,
    at_least,
    lengths,
    one_of,
    thresholds,
)
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet, label_set_named

ENGINES = ("detectron2", "torchvision")

#: Metrics of a validation that can choose the best checkpoint, beside mAP40 and the APs of
#: classes; higher is better.
METRICS = ("coco/AP", "coco/AP40", "coco/AP50", "coco/AP75")

#: MODEL.META_ARCHITECTURE -> where its number of classes is; all others have it in MODEL.ROI_HEADS.
CLASSES_UNDER = {"RetinaNet": "MODEL.RETINANET.NUM_CLASSES", "FCOS": "MODEL.RETINANET.NUM_CLASSES"}


def vindr_node() -> dict[str, Any]:
    """The node VINDR with its defaults."""
    return {
        # auto takes Detectron2 where it imports, else torchvision.
        "ENGINE": "auto",
        # The findings: a shipped set by its name, or any name with its findings below. NUM_CLASSES follows.
        "LABEL_SET": VINBIGDATA.name,
        # Findings of a set of your own, in the order of their class ids.
        "FINDINGS": (),
        # Folder that holds train/, test/ and annotations/; see datasets/README.md.
        "DATA_ROOT": "datasets/vindr",
        # Folder that holds train/ and test/ where that is another, such as a read-only download of
        # resized images; empty for DATA_ROOT.
        "IMAGE_ROOT": "",
        # A packed.npy of vindr-det prepare --pack to train and validate on instead of single files.
        "PACKED": "",
        # Batches that each of DATALOADER.NUM_WORKERS prepares ahead.
        "PREFETCH": 2,
        # A quick run on so many images of DATASETS.TRAIN and as many of VALIDATION, drawn by SEED with
        # normal images in their share; 0 takes all.
        "LIMIT": 0,
        # Measured during training; DATASETS.TEST is what `predict` turns into a submission. () trains
        # without: no metrics, no validation loss, no model_best.pth, and TEST.EVAL_PERIOD says nothing.
        "VALIDATION": ("vindr_val_fold0",),
        # Longest side in pixels that every image is resized to (area average) before anything
        # else, in training and in prediction; 0 leaves images as they are.
        "IMAGE_SIZE": 1024,
        # False resizes images to squares of IMAGE_SIZE.
        "KEEP_ASPECT": True,
        # Normal images per abnormal image in an epoch; the next epoch takes others, so that all are
        # seen. -1 takes all. The validation loss takes the same normal images each time.
        "NORMAL_RATIO": -1.0,
        # Findings that may be on an image without a box (incomplete annotations): ignore takes no negative
        # signal for them, negative takes them as not there, as complete annotations would be.
        "UNKNOWN": "ignore",
        # Boxes of fewer readers are not trained on.
        "MIN_READERS": 1,
        # Name of timm's network, where MODEL.BACKBONE.NAME is build_timm_fpn_backbone or
        # build_retinanet_timm_fpn_backbone.
        "TIMM_MODEL": "",
        # SGD, AdamW for transformers and ConvNeXt, or Adam (weight decay as an L2 penalty).
        "OPTIMIZER": "SGD",
        # Type of half precision where SOLVER.AMP.ENABLED: float16 (a GPU) or bfloat16 (any).
        "AMP_DTYPE": "float16",
        # Channels-last memory format of convolutions: always, never, or auto: for half precision on a GPU,
        # which is faster so. Results differ by rounding alone.
        "CHANNELS_LAST": "auto",
        # torch.compile of the backbone, where a training is long enough to earn the minutes that it takes;
        # where it fails, the training goes on without.
        "COMPILE": False,
        # Images with findings on a smaller share of the images than this are repeated (LVIS's repeat
        # factor sampling); 0 shows every image once per epoch.
        "REPEAT_THRESHOLD": 0.0,
        # Albumentations by name: [{name: HorizontalFlip, p: 0.5}, ...]; boxes follow.
        "AUGMENT": [],
        # Loss of the box head: the weight of a box is the share of the readers who drew it, to this
        # power; 0 weighs all boxes the same.
        "AGREEMENT_POWER": 0.0,
        # Focal loss of the box head (Lin et al., 2017); 0 is the plain cross entropy.
        "ROI_FOCAL_GAMMA": 0.0,
        # Boxes of which augmentation leaves a smaller share of the area than this are dropped.
        "MIN_VISIBILITY": 0.3,
        # model_best.pth is the checkpoint with the highest value of this metric; for label sets other than
        # VinBigData's the default is voc/mAP40.
        "BEST_METRIC": "vindr/mAP40",
        # Early stopping: validations without a better value before training stops; 0 never stops.
        "PATIENCE": 0,
        # Gradient accumulation: a batch is computed in so many parts, where memory is short.
        "ACCUMULATE": 1,
        # Decay of the model EMA that is validated and saved, such as 0.999; 0 validates and saves the
        # trained weights themselves.
        "EMA_DECAY": 0.0,
        # Number of states to resume from that are kept.
        "KEEP_CHECKPOINTS": 3,
        # Where numbers and pictures go beside the files of OUTPUT_DIR: tensorboard, wandb, mlflow; ()
        # for none.
        "LOGGERS": ("tensorboard",),
    }


def label_set_of_config(cfg: Any) -> LabelSet:
    """The label set that VINDR.LABEL_SET and VINDR.FINDINGS describe.

    Raises:
        InputError: an unknown name without findings, or findings that do not go with it.
    """
    return label_set_named(cfg.VINDR.LABEL_SET, tuple(cfg.VINDR.FINDINGS))


def best_metrics(label_set: LabelSet) -> tuple[str, ...]:
    """Metrics of a validation that can choose the best checkpoint."""
    return (label_set.mean_ap, *METRICS, *(label_set.class_ap.format(name) for name in label_set.classes))


_RGB: Check = (lambda value: len(value) == 3 and all(math.isfinite(part) for part in value), "three numbers")

#: What the keys of a detector may take, where a wrong value would fail late or be taken silently.
DETECTOR: Mapping[str, Check] = {
    **dict.fromkeys(("SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR", "SOLVER.CHECKPOINT_PERIOD",
                     "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "VINDR.MIN_READERS", "VINDR.ACCUMULATE",
                     "VINDR.KEEP_CHECKPOINTS", "VINDR.PREFETCH", "MODEL.FPN.OUT_CHANNELS",
                     "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
                     "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION"), above(0)),
    "TEST.DETECTIONS_PER_IMAGE": at_least(1),
    **dict.fromkeys(("SOLVER.WEIGHT_DECAY", "SOLVER.WARMUP_ITERS", "SOLVER.BASE_LR_END", "VINDR.IMAGE_SIZE",
                     "VINDR.LIMIT", "VINDR.REPEAT_THRESHOLD", "DATALOADER.NUM_WORKERS",
                     "INPUT.MIN_SIZE_TEST"), at_least(0)),
    **dict.fromkeys(("MODEL.ROI_HEADS.NMS_THRESH_TEST", "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
                     "MODEL.RPN.NMS_THRESH", "MODEL.RETINANET.NMS_THRESH_TEST",
                     "MODEL.RETINANET.SCORE_THRESH_TEST", "VINDR.MIN_VISIBILITY"), SHARE),
    "VINDR.UNKNOWN": one_of("ignore", "negative"),
    "VINDR.AMP_DTYPE": one_of("float16", "bfloat16"),
    "VINDR.CHANNELS_LAST": one_of("auto", "always", "never"),
    "VINDR.EMA_DECAY": PART, "SOLVER.MOMENTUM": PART, "OUTPUT_DIR": FOLDER, "MODEL.DEVICE": DEVICE,
    "VINDR.LOGGERS": LOGGER_NAMES,
    "SOLVER.WARMUP_METHOD": one_of("linear", "constant"),
    "SOLVER.STEPS": (lambda value: all(isinstance(step, int) for step in value), "iterations"),
    "MODEL.RESNETS.DEPTH": one_of(18, 34, 50, 101, 152),
    "MODEL.BACKBONE.FREEZE_AT": (lambda value: 0 <= value <= 5, "0 to 5"),
    "MODEL.PIXEL_MEAN": _RGB, "MODEL.PIXEL_STD": _RGB,
    "MODEL.RPN.IOU_THRESHOLDS": thresholds(2), "MODEL.RETINANET.IOU_THRESHOLDS": thresholds(2),
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": thresholds(1),
    "INPUT.MIN_SIZE_TRAIN": (lengths, "one or several lengths in pixels"),
    # -1 draws one; random generators take 32 bits.
    "SEED": (lambda value: -1 <= value < 2**32, f"a whole number from 0 to {2**32 - 1}, or -1 for any"),
}
