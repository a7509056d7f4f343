"""Images to gated predictions: what tools/predict.py does, for any number of models."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det import boxes as box_ops
from vindr_det.annotations import read_sizes, shapes_of
from vindr_det.config import load_config, requested_engine
from vindr_det.detection import engine as engines
from vindr_det.detection.checkpoint import load_checkpoint
from vindr_det.detection.engine import Predictor
from vindr_det.detection.splits import resolve
from vindr_det.errors import InputError
from vindr_det.files import list_images
from vindr_det.fusion import AS_DEFAULT, Fusion, fuse
from vindr_det.gating import AgreementCheck, Gate, Word
from vindr_det.images import read_image
from vindr_det.predictions import Predictions, drop_degenerate, no_finding

if TYPE_CHECKING:
    from vindr_det.detection.torchvision.onnx_file import OnnxPredictor

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


def load_predictors(
    weights: Sequence[str | Path], engine: str | None = None, half: bool = False
) -> list[Predictor]:
    """A predictor a checkpoint, each with the engine that trained it, on a GPU where there is one.

    Args:
        weights: checkpoints of train_net.py, or files of export.py.
        engine: refuse checkpoints of another engine; None takes any.
        half: compute in half precision, of the type VINDR.AMP_DTYPE.

    Raises:
        InputError: not our checkpoint, the other engine's, or its engine is not here.
    """
    predictors: list[Predictor] = []
    for path in weights:
        if _is_onnx(path):
            if engine not in (None, "torchvision"):
                raise InputError(f"{path}: was exported from the torchvision engine, expected {engine}")
            predictors.append(_onnx(path))
            continue
        checkpoint = load_checkpoint(path, engine)
        if checkpoint.engine == "detectron2" and not engines.detectron2_is_here():
            raise InputError(f"{path}: was trained with Detectron2, which does not import here; see "
                             "INSTALL.md")
        checkpoint.cfg.MODEL.DEVICE = engines.best_device()
        checkpoint.cfg.SOLVER.AMP.ENABLED = half
        module = engines.load(checkpoint.engine)
        predictors.append(module.build_predictor(checkpoint.cfg, checkpoint.state))
        log.info("%s: %s engine, iteration %d", path, checkpoint.engine, checkpoint.iteration)
    return predictors


def _is_onnx(path: str | Path) -> bool:
    return Path(path).suffix == ".onnx"


def _onnx(path: str | Path) -> "OnnxPredictor":
    from vindr_det.detection.torchvision.onnx_file import OnnxPredictor

    return OnnxPredictor(path)


def predict_folder(
    images: str | Path, predictors: Sequence[Predictor], *, meta: str | Path | None = None,
    classifier: Callable[[Image], Word] | None = None, gate: Gate | None = None,
    fusion: Fusion = AS_DEFAULT, batch: int = 1,
    check_ids: Callable[[Sequence[str]], None] | None = None, allow_inverted: bool = False,
) -> FolderPredictions:
    """Detect, fuse and gate every image of a folder.

    Args:
        images: folder of DICOM, PNG or JPEG files; the image id is the file's stem.
        predictors: detectors; several are fused by WBF.
        meta: sizes of the originals, for files that were made smaller; None takes ``meta.csv``
            in the folder if it is there, else each file counts as an original.
        classifier: its word on an image; None lets 1 - the highest box score say "no finding".
        gate: what to do with that word; None appends it.
        fusion: how several detectors' boxes become one.
        batch: images that a detector sees at once.
        check_ids: gets the image ids before the work and may refuse them.
        allow_inverted: take a classifier that contradicts the boxes.

    Raises:
        InputError: an empty folder, an image without a size, no image could be read, or the classifier says
            P(no finding) for P(abnormal), as far as the boxes tell.
    """
    paths = list_images(images)
    if check_ids is not None:
        check_ids(list(paths))
    gate = gate or Gate("append" if classifier else "none")
    agreement = None if allow_inverted or gate.form == "none" else AgreementCheck("the classifier")
    sizes = original_sizes(images, meta, list(paths))
    result, rows = FolderPredictions(), {}
    found: dict[str, Predictions] = {}
    words: dict[str, Word] = {}
    with tqdm(total=len(paths), desc="predict", unit="image", disable=None) as bar:
        for group in _read_ahead(paths, batch):
            images_of: dict[str, Image] = {}
            for image_id, image in group:
                if isinstance(image, InputError):
                    result.failed[image_id] = str(image)
                    log.warning("unreadable, its row says no finding: %s", image)
                    rows[image_id] = sizes.get(image_id, (1, 1))
                else:
                    images_of[image_id] = image
                    rows[image_id] = sizes.get(image_id, image.shape)
            if images_of:
                found |= _detect(images_of, predictors, rows, fusion)
            if classifier is not None:
                words |= {image_id: classifier(image) for image_id, image in images_of.items()}
                if agreement:
                    agreement(words, found)
            bar.update(len(group))
    if not found:
        raise InputError(f"{images}: none of its {len(paths)} images can be read; the first: "
                         f"{next(iter(result.failed.values()))}")
    if agreement:
        agreement(words, found, finished=True)
    gated = gate.apply(found, words)
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
    return shapes_of(table)


def _read_ahead(
    paths: Mapping[str, Path], batch: int
) -> Iterator[list[tuple[str, Image | InputError]]]:
    """The images in groups of ``batch``; the next group is read while this one is looked at."""

    def read(path: Path) -> Image | InputError:
        try:
            return read_image(path).pixels
        except InputError as error:
            return error

    items = list(paths.items())
    with ThreadPoolExecutor(batch) as pool:
        waiting: deque[list[tuple[str, Any]]] = deque()
        for start in range(0, len(items), batch):
            waiting.append([(image_id, pool.submit(read, path))
                            for image_id, path in items[start:start + batch]])
            if len(waiting) > 1:
                yield [(image_id, future.result()) for image_id, future in waiting.popleft()]
        for group in waiting:
            yield [(image_id, future.result()) for image_id, future in group]


def _detect(
    images: Mapping[str, Image], predictors: Sequence[Predictor], sizes: Mapping[str, tuple[int, int]],
    fusion: Fusion,
) -> dict[str, Predictions]:
    """Detections of all models on a batch of images, in the originals' pixels."""
    seen = [predictor(list(images.values())) for predictor in predictors]
    result = {}
    for (image_id, image), *lists in zip(images.items(), *seen, strict=True):
        height, width = sizes[image_id]
        lists = [_to_original(found, image, height, width) for found in lists]
        result[image_id] = (lists[0].by_score() if len(lists) == 1
                            else fuse(lists, height, width, fusion))
    return result


def _to_original(found: Predictions, image: Image, height: int, width: int) -> Predictions:
    boxes = box_ops.scale(found.boxes, width / image.shape[1], height / image.shape[0])
    return drop_degenerate(box_ops.clip(boxes, height, width), found.scores, found.labels)


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
    """The folder of images of DATASETS.TEST, as the config of a checkpoint or exported file names it.

    Raises:
        InputError: it names none or several.
    """
    cfg = _onnx(weights).cfg if _is_onnx(weights) else load_checkpoint(weights).cfg
    if len(cfg.DATASETS.TEST) != 1:
        raise InputError(f"{weights}: DATASETS.TEST is {tuple(cfg.DATASETS.TEST)}, expected one data "
                         "set; give --images")
    return resolve(cfg.DATASETS.TEST[0], cfg.VINDR.DATA_ROOT).images
