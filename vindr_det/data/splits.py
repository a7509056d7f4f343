"""Data set names of DATASETS and VINDR.VALIDATION to files and records.

======================= =========================================== ========================
name                    annotations, below DATA_ROOT                images, below IMAGE_ROOT
======================= =========================================== ========================
vindr_all               annotations/instances_all.json              train/
vindr_train_fold{k}     annotations/instances_train_fold{k}.json    train/
vindr_val_fold{k}       annotations/instances_val_fold{k}.json      train/
vindr_val_rare_readers  annotations/instances_val_rare_readers.json train/
vindr_test              none                                        test/
======================= =========================================== ========================

The first two also with ``_min2``, ``_min3``: only boxes on which so many readers agree. Any other word before
the underscore, such as ``nih_train``, names annotations/instances_train.json in the same way; its images are
in IMAGE_ROOT itself, or below DATA_ROOT in images/.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vindr_det.config_schema import label_set_of_config
from vindr_det.data.coco import patient_of_image, read_coco
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of, read_json
from vindr_det.imaging.packed import PackedImages, warn_if_newer
from vindr_det.imaging.prepared_folder import SETTINGS
from vindr_det.structures.label_sets import LabelSet, first_difference
from vindr_det.structures.records import Record, agreed_by, label_set_of_records

log = logging.getLogger(__name__)

_VALIDATION = "VINDR.VALIDATION"
_ANNOTATED = re.compile(r"vindr_((?:all|train_fold\d+)(?:_min\d+)?|val_fold\d+|val_rare_readers)"
                        r"|(?!vindr_)[a-z0-9-]+_(\w+)")


@dataclass(frozen=True)
class Split:
    """The files of a data set; ``annotations`` is None for the test set."""

    name: str
    annotations: Path | None
    images: Path


def resolve(name: str, root: str | Path, image_root: str | Path = "") -> Split:
    """The files of a named data set.

    Args:
        name: of the table above.
        root: VINDR.DATA_ROOT.
        image_root: VINDR.IMAGE_ROOT; empty where the images are below ``root`` too.

    Raises:
        InputError: the name is not in the table above.
    """
    root, own, images = Path(root), image_root, Path(image_root or root)
    if name == "vindr_test":
        return Split(name, None, images / "test")
    match = _ANNOTATED.fullmatch(name)
    if match is None:
        raise InputError(f"data set {name!r} is unknown, expected vindr_all, vindr_train_fold<k>, "
                         "either with _min<n>, vindr_val_fold<k>, vindr_val_rare_readers or vindr_test, or "
                         "another word and its part, such as nih_train")
    folder = images / "train" if match[1] else images if own else images / "images"
    return Split(name, root / "annotations" / f"instances_{match[1] or match[2]}.json", folder)


def split_of(name: str, cfg: Any) -> Split:
    """:func:`resolve` below the folders that a config names."""
    return resolve(name, cfg.VINDR.DATA_ROOT, cfg.VINDR.IMAGE_ROOT)


def read_split(name: str, cfg: Any) -> tuple[list[Record], Path]:
    """Records of an annotated data set and the folder of its images.

    Raises:
        InputError: no annotations, an image is missing (in VINDR.PACKED, if that is set), or the images were
            prepared with another aspect ratio than the config's.
    """
    split = split_of(name, cfg)
    if split.annotations is None:
        raise InputError(f"data set {name}: has no annotations to train or to score with")
    records = read_coco(split.annotations)
    require_findings(records, label_set_of_config(cfg), split.annotations)
    if not records:
        raise InputError(f"{split.annotations}: holds no image")
    _require_images(records, split, cfg.VINDR.PACKED)
    _check_preparation(Path(cfg.VINDR.PACKED).parent if cfg.VINDR.PACKED else split.images, cfg)
    return records, split.images


def _require_images(records: Sequence[Record], split: Split, packed: str) -> None:
    paths = [split.images / record.file_name for record in records]
    known = PackedImages(packed) if packed else None
    for path in paths:
        if known is None and not path.is_file():
            raise InputError(f"{path}: no such image, but {split.annotations} names it")
        if known is not None and image_id_of(path) not in known:
            raise InputError(f"{packed}: has no image {image_id_of(path)}, but {split.annotations} names it")
    if packed:
        warn_if_newer(packed, paths)


def require_findings(
    records: Sequence[Record], expected: LabelSet, path: Path, key: str = "VINDR.LABEL_SET"
) -> None:
    """Refuse annotations of other findings than expected.

    Args:
        records: of the annotations.
        expected: the label set that they should have.
        path: of the annotations, for the error.
        key: what gives the expected label set.

    Raises:
        InputError: names the file, both label sets and the first finding that differs.
    """
    own = label_set_of_records(records, str(path)) if records else expected
    if own.findings != expected.findings:
        raise InputError(f"{path}: has the findings of {own.name}, but {key} is {expected.name}; "
                         f"expected the same ({first_difference(own, expected)})")


def _check_preparation(images: Path, cfg: Any) -> None:
    settings = images / SETTINGS
    if not settings.is_file():
        return
    made = read_json(settings)
    if not isinstance(made, dict):
        raise InputError(f"{settings}: holds {made!r}, expected what vindr-det prepare wrote")
    if made.get("keep_aspect") != cfg.VINDR.KEEP_ASPECT:
        raise InputError(f"{settings}: images were prepared with keep_aspect "
                         f"{made.get('keep_aspect')}, but VINDR.KEEP_ASPECT is "
                         f"{cfg.VINDR.KEEP_ASPECT}; expected the same")
    size = made.get("size")
    if isinstance(size, int) and size < cfg.VINDR.IMAGE_SIZE:
        log.warning("%s: images were prepared at %d px, but VINDR.IMAGE_SIZE is %d: the training enlarges "
                    "them; prepare them at that size", settings, size, cfg.VINDR.IMAGE_SIZE)


def training_records(cfg: Any) -> list[tuple[Record, Path]]:
    """The images to train on, each with its folder: DATASETS.TRAIN, boxes by agreement.

    With VINDR.UNKNOWN ``negative`` nothing is unknown on them; else an image without boxes on which every
    finding is unknown is left out, since nothing of it can teach. One without boxes on which some are unknown
    is not normal, and is kept for the others' sake. All normal images are among them, unless an epoch has
    none; :func:`vindr_det.training.sampler.training_order` chooses those of each epoch.
    """
    teaching = _limited(_that_teach(_read_all(cfg, cfg.DATASETS.TRAIN, "DATASETS.TRAIN"), cfg), cfg)
    chosen = _agreed_boxes(teaching, cfg)
    if not normal_count(cfg, [record for record, _ in chosen]):
        chosen = [item for item in chosen if not item[0].normal]
    if not chosen:
        raise InputError(f"DATASETS.TRAIN {tuple(cfg.DATASETS.TRAIN)}: no image is left to train on")
    if cfg.VINDR.AGREEMENT_POWER > 0 and not any(_agreement_known(record) for record, _ in chosen):
        raise InputError(f"VINDR.AGREEMENT_POWER is {cfg.VINDR.AGREEMENT_POWER}, but the annotations do not "
                         "name their readers; make them with vindr-det convert vinbigdata")
    return chosen


def _that_teach(items: list[tuple[Record, Path]], cfg: Any) -> list[tuple[Record, Path]]:
    """The images with what is unknown on them by VINDR.UNKNOWN, but those that a loss takes nothing from."""
    if cfg.VINDR.UNKNOWN == "negative":
        items = [(replace(record, unknown=()), images) for record, images in items]
    empty = not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    return [(record, images) for record, images in items if len(record.truth) or record.normal
            or (empty and len(record.unknown) < len(record.label_set))]


def _agreement_known(record: Record) -> bool:
    return bool(record.readers) or bool((record.truth.scores < 1).any())


def loss_records(cfg: Any) -> list[tuple[Record, Path]]:
    """The images of VINDR.VALIDATION for the validation loss, the same at each validation.

    The share of normal images is that of a training epoch, without which the two losses could not be
    compared.

    Raises:
        InputError: VINDR.VALIDATION names images, but none of them is left.
    """
    teaching = _that_teach(_agreed_boxes(validation_records(cfg), cfg), cfg)
    count = normal_count(cfg, [record for record, _ in teaching])
    chosen = subsample_normals(teaching, count, seed=max(cfg.SEED, 0))
    if cfg.VINDR.VALIDATION and not chosen:
        raise InputError(f"{_VALIDATION} {tuple(cfg.VINDR.VALIDATION)}: no image is left for the validation "
                         f"loss with VINDR.NORMAL_RATIO {cfg.VINDR.NORMAL_RATIO}, expected images with boxes "
                         "or another ratio")
    return chosen


def normal_count(cfg: Any, records: Sequence[Record]) -> int:
    """Number of normal images that NORMAL_RATIO keeps beside the abnormal ones."""
    normal = sum(record.normal for record in records)
    ratio = 0.0 if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else cfg.VINDR.NORMAL_RATIO
    return normal if ratio < 0 else min(normal, round(ratio * (len(records) - normal)))


def _read_all(cfg: Any, names: Sequence[str], key: str) -> list[tuple[Record, Path]]:
    return [(record, images) for name in _named(names, key)
            for records, images in [read_split(name, cfg)] for record in records]


def _limited(items: list[tuple[Record, Path]], cfg: Any) -> list[tuple[Record, Path]]:
    """VINDR.LIMIT images chosen at random, the normal ones in their share, at least one of the others."""
    limit, seed = cfg.VINDR.LIMIT, max(cfg.SEED, 0)
    if not 0 < limit < len(items):
        return items
    normal, abnormal = ([i for i, (record, _) in enumerate(items) if record.normal == wanted]
                        for wanted in (True, False))
    count = min(round(limit * len(normal) / len(items)), limit - bool(abnormal))
    draw = np.random.default_rng(seed).choice
    kept = {*draw(normal, count, replace=False), *draw(abnormal, limit - count, replace=False)}
    return [item for i, item in enumerate(items) if i in kept]


def _agreed_boxes(chosen: list[tuple[Record, Path]], cfg: Any) -> list[tuple[Record, Path]]:
    """The images with only the boxes on which MIN_READERS readers agree."""
    if cfg.VINDR.MIN_READERS <= 1:
        return chosen
    agreed = [(record, _agreed(record, cfg.VINDR.MIN_READERS), images) for record, images in chosen]
    # An image on which readers disagree about everything is neither normal nor abnormal.
    return [(kept, images) for record, kept, images in agreed if len(kept.truth) or not len(record.truth)]


def _agreed(record: Record, count: int) -> Record:
    if len(record.truth) and not record.readers:
        raise InputError(f"VINDR.MIN_READERS is {count}, but the annotations of {record.image_id} do "
                         "not name their readers; make them with vindr-det convert vinbigdata")
    return agreed_by(record, count)


def validation_records(cfg: Any) -> list[tuple[Record, Path]]:
    """All images of VINDR.VALIDATION, each with its folder; none where it is empty."""
    return _limited(_read_all(cfg, cfg.VINDR.VALIDATION, _VALIDATION), cfg)


def require_validation(cfg: Any) -> None:
    """Refuse to score where there is nothing to score on.

    Raises:
        InputError: VINDR.VALIDATION is empty.
    """
    if not cfg.VINDR.VALIDATION:
        raise InputError(f"{_VALIDATION} is empty, expected data sets to score on such as "
                         "(\"vindr_val_fold0\",)")


def warn_of_overlap(cfg: Any) -> None:
    """Warn of images or patients that are both trained on and validated on, whose scores are too good.

    It is no error, since an overfitting check needs just that.
    """
    parts = {key: _named(names, key) for key, names in (
        ("DATASETS.TRAIN", cfg.DATASETS.TRAIN), (_VALIDATION, cfg.VINDR.VALIDATION))}
    trained, held_out = ([image for name in names for image in _images_of(name, cfg)]
                         for names in parts.values())
    for what, value_of in (("images", _file_name), ("patients", patient_of_image)):
        in_training, in_validation = _values(trained, value_of), _values(held_out, value_of)
        both = [value for value in in_validation if value in in_training]
        if both:
            log.warning("%d of the %d %s of VINDR.VALIDATION %s are also in DATASETS.TRAIN %s, the first is "
                        "%s: metrics on them, and the best checkpoint that these choose, do not hold for "
                        "other images", len(both), len(in_validation), what, tuple(cfg.VINDR.VALIDATION),
                        tuple(cfg.DATASETS.TRAIN), both[0])
            return  # the images' patients are shared too


def warn_of_trained_images(name: str, cfg: Any) -> None:
    """Warn of images of a data set that a checkpoint was trained on: its boxes there are too good.

    Args:
        name: of an annotated data set.
        cfg: of the checkpoint; training sets whose annotations are not there any more are left out.
    """
    there = [train for train in cfg.DATASETS.TRAIN
             if _ANNOTATED.fullmatch(train) and (path := split_of(train, cfg).annotations) and path.is_file()]
    trained = _values([image for train in there for image in _images_of(train, cfg)], _file_name)
    predicted = _values(_images_of(name, cfg), _file_name)
    both = [file for file in predicted if file in trained]
    if both:
        log.warning("%d of the %d images of %s were trained on (DATASETS.TRAIN %s), the first is %s: the "
                    "predictions are better there than on other images", len(both), len(predicted), name,
                    tuple(cfg.DATASETS.TRAIN), both[0])


def _images_of(name: str, cfg: Any) -> list[dict[str, Any]]:
    path = split_of(name, cfg).annotations
    return read_json(path)["images"] if path is not None else []


def _file_name(image: Mapping[str, Any]) -> str | None:
    return image.get("file_name")


def _values(
    images: Sequence[Mapping[str, Any]], value_of: Callable[[Mapping[str, Any]], str | None]
) -> dict[str, None]:
    """The images' values that are known, each once, in their order."""
    return dict.fromkeys(value for image in images if (value := value_of(image)) is not None)


def _named(names: Sequence[str], key: str) -> Sequence[str]:
    if isinstance(names, str) or not (names or key == _VALIDATION):  # a training may go without validation
        raise InputError(f"{key} {names!r}: expected a list of data sets such as (\"vindr_all\",)")
    return names


def subsample_normals(
    items: Sequence[tuple[Record, Path]], count: int, seed: int
) -> list[tuple[Record, Path]]:
    """Keep ``count`` of the normal images, chosen at random."""
    normal = [i for i, (record, _) in enumerate(items) if record.normal]
    kept = set(np.random.default_rng(seed).choice(normal, count, replace=False).tolist())
    return [item for i, item in enumerate(items) if not item[0].normal or i in kept]
