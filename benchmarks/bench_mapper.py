#!/usr/bin/env python
"""Training images from disk to the model's input: ours against a notebook's mapper and Detectron2's.

    python benchmarks/bench_mapper.py [--quick]

Images are phantoms of 1,024 px in the page cache, one process, one thread. The notebook's mapper is that of
VinBigData's public Detectron2 notebooks: a deep copy, three channels, Albumentations, float32. Detectron2's
is its DatasetMapper with a resize of the shortest edge and a flip. Both read PNGs; ours reads these, or a
packed file (VINDR.PACKED). Outputs are compared before anything is timed, without what is drawn at random.
"""

import copy
import itertools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from comparison import Row, alternate, of_turns, processor_seconds, seconds
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils

from vindr_det import cli
from vindr_det.detection.detectron2 import VindrMapper, get_vindr_cfg
from vindr_det.detection.detectron2.datasets import in_file_pixels, to_dicts
from vindr_det.files import write_png
from vindr_det.imaging.packed import pack
from vindr_det.imaging.resize import Target, resize
from vindr_det.phantom.radiograph import render
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record

#: Drawn from nothing: the same for both, as Albumentations of the config and of the notebook.
_FIXED = [{"name": "HorizontalFlip", "p": 1.0},
          {"name": "RandomBrightnessContrast", "brightness_limit": [0.1, 0.1], "contrast_limit": [0.1, 0.1],
           "p": 1.0}]
_BATCH = 8
#: Seconds of a call.
Measure = Callable[[Callable[[], Any]], float]


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: checks the harness alone")
    parser.add_argument("--processor", action="store_true", help="measure processor time")
    args = parser.parse_args(argv)
    from bench import table

    print(table(list(rows(args.quick, processor_seconds if args.processor else seconds))))


def rows(quick: bool, measure: Measure = seconds) -> Iterable[Row]:
    """Images per second of the mappers, and bytes of a batch."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    side, count = (128, 4) if quick else (1024, 24)
    with tempfile.TemporaryDirectory() as folder:
        dicts = images(Path(folder), side, count)
        packed = Path(folder) / "packed.npy"
        yield from against_notebook(dicts, packed, side, measure)
        yield from against_detectron2(dicts, packed, side, measure)
        yield batch_bytes(dicts, packed, side)


def images(folder: Path, side: int, count: int) -> list[dict[str, Any]]:
    """Phantoms as PNGs and packed, and their dataset dicts in pixels of the files."""
    records, target = [], Target(side, keep_aspect=True)
    for number in range(count):
        shape = (side * 5 // 4, side + side * (number % 4) // 16)
        drawn = render(np.random.default_rng(number), *shape, labels=(0, 3, 10), bits=12)
        write_png(folder / f"{number}.png", resize((drawn.pixels >> 4).astype(np.uint8), target))
        boxes = np.array([[0.1, 0.2, 0.4, 0.5], [0.3, 0.3, 0.7, 0.9]]) * [*shape[::-1], *shape[::-1]]
        truth = Predictions(boxes, np.ones(2), np.array([3, 10]))
        records.append(Record(str(number), f"{number}.png", *shape, truth))
    pack(folder, [record.image_id for record in records], folder / "packed.npy")
    return [in_file_pixels(entry) for entry in to_dicts((record, folder) for record in records)]


def mapper_of(packed: Path | str, side: int, **changes: Any) -> VindrMapper:
    """Ours, for training."""
    cfg = get_vindr_cfg()
    cfg.VINDR.IMAGE_SIZE, cfg.VINDR.PACKED = side, str(packed)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (2 * side,), side  # leaves them as they are
    cfg.INPUT.RANDOM_FLIP = "none"
    for key, value in changes.items():
        setattr(cfg.VINDR if key == "AUGMENT" else cfg.INPUT, key, value)
    return VindrMapper(cfg, is_train=True)


class NotebookMapper:
    """As VinBigData's public notebooks have it."""

    def __init__(self, transforms: Sequence[dict[str, Any]]) -> None:
        self.transform = A.Compose(
            [getattr(A, spec["name"])(**{key: tuple(value) if isinstance(value, list) else value
                                         for key, value in spec.items() if key != "name"})
             for spec in transforms],
            bbox_params=A.BboxParams(format="pascal_voc", label_fields=["category_ids"]))

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        dataset_dict = copy.deepcopy(dataset_dict)
        image = utils.read_image(dataset_dict["file_name"], format="BGR")
        annotations = dataset_dict.pop("annotations")
        boxes = np.array([annotation["bbox"] for annotation in annotations], dtype=np.float32)
        transformed = self.transform(image=image, bboxes=boxes, category_ids=np.arange(len(annotations)))
        image, kept = transformed["image"], []
        for box, row in zip(transformed["bboxes"], transformed["category_ids"], strict=True):
            annotations[int(row)].pop("segmentation")
            kept.append(annotations[int(row)] | {"bbox": box})
        dataset_dict["image"] = torch.as_tensor(image.transpose(2, 0, 1).astype("float32"))
        dataset_dict["instances"] = utils.filter_empty_instances(
            utils.annotations_to_instances(kept, image.shape[:2]))
        return dataset_dict


def against_notebook(
    dicts: Sequence[dict[str, Any]], packed: Path, side: int, measure: Measure
) -> Iterable[Row]:
    """Flip, brightness and contrast."""
    theirs = NotebookMapper(_FIXED)
    for source, name, target in ((packed, "VindrMapper, packed file", 4.0), ("", "VindrMapper, PNG", None)):
        ours = mapper_of(source, side, AUGMENT=_FIXED)
        require_same(ours, theirs, dicts)
        yield alternate(f"mapper, {side} px", (name, every(ours, dicts)),
                        ("the notebook's mapper, PNG", every(theirs, dicts)), per=len(dicts), target=target,
                        measure=measure, note="flip, brightness, contrast; same pixels and boxes")


def against_detectron2(
    dicts: Sequence[dict[str, Any]], packed: Path, side: int, measure: Measure
) -> Iterable[Row]:
    """Resize of the shortest edge and, half of the time, a flip."""
    sizes = {"MIN_SIZE_TRAIN": (side * 25 // 32,), "MAX_SIZE_TRAIN": side}
    for source, name, target in ((packed, "VindrMapper, packed file", 2.0), ("", "VindrMapper, PNG", None)):
        for flip in ("none", "horizontal"):
            cfg = get_vindr_cfg()
            cfg.INPUT.RANDOM_FLIP = flip
            cfg.INPUT.merge_from_other_cfg(type(cfg)(sizes))
            theirs = DatasetMapper(cfg, is_train=True)
            ours = mapper_of(source, side, RANDOM_FLIP=flip, **sizes)
            if flip == "none":  # a flip is drawn
                require_same(ours, theirs, dicts)
        yield alternate(f"mapper, {side} px", (name, every(ours, dicts)),
                        ("DatasetMapper, PNG", every(theirs, dicts)), per=len(dicts), target=target,
                        measure=measure, note="resize and flip; same pixels and boxes without flip")


def batch_bytes(dicts: Sequence[dict[str, Any]], packed: Path, side: int) -> Row:
    """What a batch takes of the memory that loader workers and the trainer share."""
    sizes = [sum(entry["image"].untyped_storage().nbytes() for entry in map(
        mapper, itertools.islice(itertools.cycle(dicts), _BATCH))) / 1e6
        for mapper in (mapper_of(packed, side), NotebookMapper([]))]
    return of_turns(f"shared memory, batch of {_BATCH}, {side} px", ("one channel uint8", sizes[:1]),
                    ("three channels float32", sizes[1:]), unit="MB", target=8.0)


def every(mapper: Callable[[dict[str, Any]], Any], dicts: Sequence[dict[str, Any]]) -> Callable[[], None]:
    """The work of mapping all images."""
    def work() -> None:
        for entry in dicts:
            mapper(entry)
    return work


def require_same(
    ours: Callable[[dict[str, Any]], Any], theirs: Callable[[dict[str, Any]], Any],
    dicts: Sequence[dict[str, Any]],
) -> None:
    """Refuse mappers that differ in a pixel, or in a box by a hundredth of one."""
    for entry in dicts:
        own, other = ours(entry), theirs(entry)
        assert own["image"].dtype == torch.uint8 and own["image"].shape[0] == 1
        assert torch.equal(own["image"].expand(3, -1, -1).float(), other["image"].float())
        boxes = [mapped["instances"].gt_boxes.tensor for mapped in (own, other)]
        assert torch.allclose(*boxes, atol=0.01), boxes


if __name__ == "__main__":
    cli.run(main)
