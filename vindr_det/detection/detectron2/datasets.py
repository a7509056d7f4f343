"""Records as Detectron2's standard dataset dicts, and their registration."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from torch.utils.data import Dataset

from vindr_det.categories import FINDINGS
from vindr_det.coco import read_coco
from vindr_det.detection.order import Ticket
from vindr_det.detection.splits import resolve
from vindr_det.errors import InputError
from vindr_det.records import Record


def to_dicts(items: Iterable[tuple[Record, Path]]) -> list[dict[str, Any]]:
    """Records, each with its folder of images, in Detectron2's format.

    ``image_id`` is our string id; ``height`` and ``width`` are the original's, and so are the
    boxes (xyxy), whatever the size of the file. ``agreement`` is the share of readers behind a box.
    """
    return [
        {
            "file_name": str(folder / record.file_name),
            "image_id": record.image_id,
            "height": record.height,
            "width": record.width,
            "annotations": [
                {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": label, "iscrowd": 0,
                 "agreement": share}
                for box, label, share in zip(
                    record.truth.boxes.tolist(), record.truth.labels.tolist(),
                    record.truth.scores.tolist(), strict=True)
            ],
        }
        for record, folder in items
    ]


class MappedImages(Dataset):
    """Dataset dicts by ticket: mapped, with the ticket's seed."""

    def __init__(self, dicts: Sequence[dict[str, Any]], mapper: Callable[[dict], dict]) -> None:
        self.dicts, self.mapper = dicts, mapper

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, ticket: Ticket) -> dict[str, Any]:
        return self.mapper(self.dicts[ticket.row] | {"seed": ticket.seed})


def register_datasets(root: str | Path, names: Sequence[str]) -> None:
    """Register data sets of :mod:`vindr_det.detection.splits` with Detectron2's catalogs.

    Our own trainer does not need this; other Detectron2 code does. Registering a name again
    replaces it.

    Args:
        root: folder that holds train/ and annotations/.
        names: such as ``vindr_train_fold0``.

    Raises:
        InputError: a name is unknown.
    """
    for name in names:
        split = resolve(name, root)
        if split.annotations is None:
            raise InputError(f"data set {name}: has no annotations to register")
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, partial(_load, split.annotations, split.images))
        MetadataCatalog.get(name).set(
            thing_classes=list(FINDINGS),
            thing_dataset_id_to_contiguous_id={i: i for i in range(len(FINDINGS))},
            image_root=str(split.images),
            json_file=str(split.annotations),
            evaluator_type="vindr",
        )


def _load(annotations: Path, images: Path) -> list[dict[str, Any]]:
    return to_dicts((record, images) for record in read_coco(annotations))
