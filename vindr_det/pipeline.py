"""Images to gated predictions: what tools/predict.py does, for any number of models."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det import boxes as box_ops
from vindr_det.annotations import read_sizes
from vindr_det.config import load_config, requested_engine
from vindr_det.detection import engine as engines
from vindr_det.detection.checkpoint import load_checkpoint
from vindr_det.detection.engine import Predictor
from vindr_det.detection.splits import resolve
from vindr_det.errors import InputError
from vindr_det.files import list_images
from vindr_det.fusion import fuse
from vindr_det.gating import soft_append, without_classifier
from vindr_det.images import read_image
from vindr_det.predictions import Predictions, drop_degenerate, no_finding

log = logging.getLogger(__name__)

Image = NDArray[np.uint8]


@dataclass
class FolderPredictions:
    """What came of a folder.

    Attributes:
        predictions: image id -> gated detections, original pixels; unreadable images say "no
            finding".
        sizes: index image_id, columns height and width of the originals.
        failed: image id -> why it could not be read.
    """

    predictions: dict[str, Predictions] = field(default_factory=dict)
    sizes: pd.DataFrame = field(default_factory=pd.DataFrame)
    failed: dict[str, str] = field(default_factory=dict)


def load_predictors(weights: Sequence[str | Path], engine: str | None = None) -> list[Predictor]:
    """A predictor a checkpoint, each with the engine that trained it, on a GPU where there is one.

    Raises:
        InputError: not our checkpoint, the other engine's, or its engine is not here.
    """
    predictors = []
    for path in weights:
        checkpoint = load_checkpoint(path, engine)
        if checkpoint.engine == "detectron2" and not engines.detectron2_is_here():
            raise InputError(f"{path}: was trained with Detectron2, which does not import here; see "
                             "INSTALL.md")
        checkpoint.cfg.MODEL.DEVICE = engines.best_device()
        module = engines.load(checkpoint.engine)
        predictors.append(module.build_predictor(checkpoint.cfg, checkpoint.state))
        log.info("%s: %s engine, iteration %d", path, checkpoint.engine, checkpoint.iteration)
    return predictors


def predict_folder(
    images: str | Path, predictors: Sequence[Predictor], *, meta: str | Path | None = None,
    classifier: Callable[[Image], float] | None = None, iou_thr: float = 0.4,
) -> FolderPredictions:
    """Detect, fuse and gate every image of a folder.

    Args:
        images: folder of DICOM, PNG or JPEG files; the image id is the file's stem.
        predictors: detectors; several are fused by WBF.
        meta: sizes of the originals, for files that were made smaller; None takes ``meta.csv``
            in the folder if it is there, else each file counts as an original.
        classifier: P(abnormal) of an image; None takes the highest box score.
        iou_thr: of the fusion.

    Raises:
        InputError: an empty folder, an image without a size, or no image could be read.
    """
    paths = list_images(images)
    sizes = original_sizes(images, meta, list(paths))
    result, p_abnormal, found, rows = FolderPredictions(), {}, {}, {}
    for image_id, path in tqdm(paths.items(), desc="predict", unit="image", disable=None):
        try:
            image = read_image(path).pixels
        except InputError as error:
            result.failed[image_id] = str(error)
            log.warning("unreadable, its row says no finding: %s", error)
            rows[image_id] = sizes.get(image_id, (1, 1))
            continue
        height, width = rows[image_id] = sizes.get(image_id, image.shape)
        found[image_id] = _detect(image, predictors, height, width, iou_thr)
        if classifier is not None:
            p_abnormal[image_id] = classifier(image)
    if not found:
        raise InputError(f"{images}: none of its {len(paths)} images can be read; the first: "
                         f"{next(iter(result.failed.values()))}")
    gated = soft_append(found, p_abnormal) if classifier else without_classifier(found)
    result.predictions = {image_id: gated.get(image_id, no_finding()) for image_id in paths}
    result.sizes = pd.DataFrame.from_dict(rows, orient="index", columns=["height", "width"])
    return result


def original_sizes(
    images: str | Path, meta: str | Path | None, ids: Sequence[str]
) -> Mapping[str, tuple[int, int]]:
    beside = Path(images) / "meta.csv"
    source = meta or (beside if beside.is_file() else None)
    if source is None:
        return {}
    table = read_sizes(source)
    missing = [image_id for image_id in ids if image_id not in table.index]
    if missing:
        raise InputError(f"{source}: image {missing[0]} has no size ({len(missing)} in all)")
    return {i: (int(h), int(w)) for i, h, w in table.itertuples()}


def _detect(
    image: Image, predictors: Sequence[Predictor], height: int, width: int, iou_thr: float
) -> Predictions:
    """Detections of all models on one image, in the original's pixels."""
    lists = []
    for predictor in predictors:
        found = predictor(image)
        boxes = box_ops.scale(found.boxes, width / image.shape[1], height / image.shape[0])
        boxes = box_ops.clip(boxes, height, width)
        lists.append(drop_degenerate(boxes, found.scores, found.labels))
    return lists[0].by_score() if len(lists) == 1 else fuse(lists, height, width, iou_thr=iou_thr)


def best_weights(config: str | Path) -> Path:
    """model_best.pth, or else model_final.pth, in a config's OUTPUT_DIR.

    Raises:
        InputError: neither is there.
    """
    name = engines.choose(requested_engine(config))
    folder = Path(load_config(config, name).OUTPUT_DIR)
    for candidate in (folder / "model_best.pth", folder / "model_final.pth"):
        if candidate.is_file():
            return candidate
    raise InputError(f"{folder}: holds no model_best.pth or model_final.pth; train first (python "
                     f"tools/train_net.py --config {config}) or give --weights")


def test_images(weights: str | Path) -> Path:
    """The folder of images of DATASETS.TEST, as the checkpoint's config names it."""
    cfg = load_checkpoint(weights).cfg
    if len(cfg.DATASETS.TEST) != 1:
        raise InputError(f"{weights}: DATASETS.TEST is {tuple(cfg.DATASETS.TEST)}, expected one data "
                         "set; give --images")
    return resolve(cfg.DATASETS.TEST[0], cfg.VINDR.DATA_ROOT).images
