"""Records as Detectron2's standard dataset dicts, and their registration."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.samplers import InferenceSampler
from detectron2.structures import BoxMode
from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset, Sampler

from vindr_det.data.coco import read_coco
from vindr_det.data.splits import Split, require_findings, resolve
from vindr_det.detection.detectron2.mapper import rectangle
from vindr_det.detection.incomplete import NOT_EXHAUSTIVE
from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.sizes import read_sizes, shapes_of
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet
from vindr_det.structures.records import Record
from vindr_det.training.loading import SharedList, loader_options
from vindr_det.training.sampler import SampleKey

Size = tuple[int, int]


def to_dicts(items: Iterable[tuple[Record, Path]]) -> list[dict[str, Any]]:
    """Detectron2's dataset dicts of records, each with its folder of images.

    ``image_id`` is our string id. ``height``, ``width`` and the boxes (xyxy) are in pixels of the original,
    whatever the size of the file. ``agreement`` is the share of the readers who drew a box.
    ``not_exhaustive_category_ids``, as LVIS has it, are the class ids of the unknown findings.
    """
    return [
        {
            "file_name": str(folder / record.file_name),
            "image_id": record.image_id,
            "height": record.height,
            "width": record.width,
            NOT_EXHAUSTIVE: list(record.unknown),
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
    """Mapped dataset dicts by row, or by :class:`SampleKey` with its seed in the dict."""

    def __init__(self, dicts: Iterable[dict[str, Any]], mapper: Callable[[dict], dict]) -> None:
        self.dicts, self.mapper = SharedList(dicts), mapper

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, sample_key: SampleKey | int) -> dict[str, Any]:
        if isinstance(sample_key, SampleKey):
            return self.mapper(self.dicts[sample_key.row] | {"seed": sample_key.seed})
        return self.mapper(self.dicts[sample_key])


def build_loader(
    cfg: Any, items: Iterable[tuple[Record, Path]], mapper: Callable[[dict], dict], batch_size: int = 1,
    order: Sampler[SampleKey] | None = None,
) -> DataLoader:
    """Batches of mapped images.

    Args:
        cfg: for MODEL.DEVICE, DATALOADER.NUM_WORKERS and VINDR.PREFETCH.
        items: records, each with its folder of images.
        mapper: dataset dict to model input.
        batch_size: images.
        order: of the images; None for this rank's share of them, each once.
    """
    dataset = MappedImages(to_dicts(items), mapper)
    options = loader_options(cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS, cfg.VINDR.PREFETCH)
    return DataLoader(dataset, batch_size, sampler=order or InferenceSampler(len(dataset)), collate_fn=list,
                      **options)


def register_datasets(
    root: str | Path, names: Sequence[str], image_root: str | Path = "", label_set: LabelSet = VINBIGDATA
) -> None:
    """Register data sets of :mod:`vindr_det.data.splits` with Detectron2's catalogs.

    :class:`VindrTrainer` does not need this. Detectron2's ``DatasetMapper``, ``COCOEvaluator`` (which needs
    an ``output_dir``) and training scripts use a registered data set as they use COCO. Registering a name
    again replaces it. See :func:`in_file_pixels` for the dicts; ``vindr_test`` has no annotations.

    Args:
        root: folder with train/, test/ and annotations/.
        names: names of data sets, such as ``vindr_train_fold0``.
        image_root: folder with train/ and test/ where that is another; empty for ``root``.
        label_set: of the data sets, such as ``label_set_of_config(cfg)``; their metadata carry it.

    Raises:
        InputError: a name is unknown; or, when a data set is used, its annotations have other findings.
    """
    for name in names:
        split = resolve(name, root, image_root)
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, partial(_load, split, label_set))
        # No json_file: ours is in pixels of the originals and has other ids. COCOEvaluator makes its own.
        MetadataCatalog.get(name).set(
            label_set=label_set,
            thing_classes=list(label_set.findings),
            thing_dataset_id_to_contiguous_id={i: i for i in range(len(label_set))},
            image_root=str(split.images),
            evaluator_type="coco",
        )


def _load(split: Split, label_set: LabelSet) -> list[dict[str, Any]]:
    if split.annotations is None:
        dicts = _unannotated(split.images)
    else:
        records = read_coco(split.annotations)
        require_findings(records, label_set, split.annotations, "label_set of register_datasets")
        dicts = to_dicts((record, split.images) for record in records)
    return [in_file_pixels(dataset_dict) for dataset_dict in dicts]


def _unannotated(images: Path) -> list[dict[str, Any]]:
    """Dataset dicts of all images in a folder, with the original's size where meta.csv has it."""
    meta = images / "meta.csv"
    sizes = shapes_of(read_sizes(meta)) if meta.is_file() else {}
    dicts = []
    for image_id, path in list_images(images).items():
        size = sizes.get(image_id) or _file_size(path)
        if size is None:
            raise InputError(f"{path}: its original size is unknown, expected {meta} to hold {image_id}")
        height, width = size
        dicts.append({"file_name": str(path), "image_id": image_id, "height": height, "width": width})
    return dicts


def in_file_pixels(dataset_dict: dict[str, Any]) -> dict[str, Any]:
    """A dict of :func:`to_dicts` as Detectron2's own code expects it.

    ``height``, ``width`` and the boxes become those of the file, which may be smaller than the original;
    ``original_height`` and ``original_width`` keep the original's. Each box is also its own
    ``segmentation``, for Mask R-CNN on data that has only boxes.

    Raises:
        InputError: there is no such file.
    """
    height, width = original = (dataset_dict["height"], dataset_dict["width"])
    size = _file_size(Path(dataset_dict["file_name"])) or original
    result = dataset_dict | {"height": size[0], "width": size[1],
                             "original_height": height, "original_width": width}
    if "annotations" in dataset_dict:
        x, y = size[1] / width, size[0] / height
        result["annotations"] = [_scaled(annotation, x, y) for annotation in dataset_dict["annotations"]]
    return result


def original_size(dataset_dict: dict[str, Any]) -> Size:
    """Height and width of the original, from a dict of :func:`to_dicts` or :func:`in_file_pixels`."""
    height, width = dataset_dict["height"], dataset_dict["width"]
    return dataset_dict.get("original_height", height), dataset_dict.get("original_width", width)


def _scaled(annotation: dict[str, Any], x: float, y: float) -> dict[str, Any]:
    box = box_ops.scale([annotation["bbox"]], x, y)[0].tolist()
    return annotation | {"bbox": box, "segmentation": [rectangle(box).tolist()]}


def _file_size(path: Path) -> Size | None:
    """Height and width in the header of an image; None for DICOM, which is the original itself."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except UnidentifiedImageError:
        return None
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image, but its annotations name it") from error
