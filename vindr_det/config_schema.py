"""Everything that this project adds to the configs of a detector, with its defaults."""

from typing import Any

from vindr_det.structures.label_sets import CLASS_NAMES

ENGINES = ("detectron2", "torchvision")

#: What validation measures, higher being better.
METRICS = ("vindr/mAP40", "coco/AP", "coco/AP40", "coco/AP50", "coco/AP75",
           *(f"vindr/AP40/{name}" for name in CLASS_NAMES))


def vindr_node() -> dict[str, Any]:
    """Everything that this project adds to the schema."""
    return {
        # auto takes Detectron2 where it imports, else torchvision.
        "ENGINE": "auto",
        # Folder that holds train/, test/ and annotations/; see datasets/README.md.
        "DATA_ROOT": "datasets/vindr",
        # Scored during training; DATASETS.TEST is what predict.py turns into a submission.
        "VALIDATION": ("vindr_val_fold0",),
        # Longest side in pixels that every image is brought to (area average) before anything
        # else, in training and in prediction; 0 leaves images as they are.
        "IMAGE_SIZE": 1024,
        # False squeezes images into squares of IMAGE_SIZE.
        "KEEP_ASPECT": True,
        # Normal images in an epoch of the training for each abnormal one; others come in the next
        # epoch, so that all are seen. -1 takes all each time. Validation loss: the same ones each time.
        "NORMAL_RATIO": -1.0,
        # Boxes behind which fewer readers stand are not trained on.
        "MIN_READERS": 1,
        # Which of timm's networks, where MODEL.BACKBONE.NAME is build_timm_fpn_backbone or
        # build_retinanet_timm_fpn_backbone.
        "TIMM_MODEL": "",
        # SGD, or AdamW, with which transformers and ConvNeXt are trained.
        "OPTIMIZER": "SGD",
        # Type of half precision where SOLVER.AMP.ENABLED: float16 (a GPU) or bfloat16 (any).
        "AMP_DTYPE": "float16",
        # Images of findings on a smaller share of the images than this come oftener (LVIS's repeat
        # factor); 0 shows every image once a round.
        "REPEAT_THRESHOLD": 0.0,
        # Albumentations by name: [{name: HorizontalFlip, p: 0.5}, ...]; boxes follow.
        "AUGMENT": [],
        # Loss of the box head: a box that a share s of the readers drew weighs s to this power; 0
        # weighs all the same.
        "AGREEMENT_POWER": 0.0,
        # Focal loss of the box head (Lin et al., 2017); 0 is the plain cross entropy.
        "ROI_FOCAL_GAMMA": 0.0,
        # After augmentation, boxes with less of their area left than this are dropped.
        "MIN_VISIBILITY": 0.3,
        # model_best.pth is the checkpoint with the highest value of this metric.
        "BEST_METRIC": "vindr/mAP40",
        # Validations without a new best before training stops; 0 trains to the end.
        "PATIENCE": 0,
        # A batch is computed in so many parts, one after the other, where memory is short.
        "ACCUMULATE": 1,
        # The average of the weights that is validated and saved keeps so much at each step, such
        # as 0.999; 0 validates and saves the weights themselves.
        "EMA_DECAY": 0.0,
        # Checkpoints to resume from that are kept.
        "KEEP_CHECKPOINTS": 3,
    }
