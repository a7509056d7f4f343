"""A config written from annotations: data sets' names, the rules of :mod:`vindr_det.detection.plan`, and a
YAML file in which every value has its reason (:mod:`vindr_det.detection.plan_text`)."""

import ast
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vindr_det.config import load_yaml, requested_engine
from vindr_det.data.coco import read_coco
from vindr_det.data.fingerprint import MIN_IMAGES, Fingerprint, fingerprint_of, measure_files, read_patients
from vindr_det.data.folds import check_disjoint_patients
from vindr_det.data.splits import resolve
from vindr_det.detection.loading import load_config
from vindr_det.detection.plan import Budget, Recipe, Setting, notes, plan
from vindr_det.detection.plan_text import as_yaml
from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, holds_json
from vindr_det.structures.label_sets import LABEL_SETS, VINBIGDATA, LabelSet
from vindr_det.structures.records import Record, label_set_of_records


@dataclass(frozen=True)
class Annotated:
    """A COCO file that a config can name.

    Attributes:
        path: of the file.
        records: its images.
        patient_of: image id -> patient; empty where they are not known.
        root: VINDR.DATA_ROOT.
        name: of the data set.
    """

    path: Path
    records: Sequence[Record]
    patient_of: dict[str, str]
    root: Path
    name: str

    @classmethod
    def read(cls, path: str | Path, images: str | Path | None) -> "Annotated":
        """Read a COCO file and name it as configs do.

        Args:
            path: DATA_ROOT/annotations/instances_<name>.json.
            images: VINDR.IMAGE_ROOT; None where the images are below DATA_ROOT.

        Raises:
            InputError: the file is faulty, holds no image, or lies where no config finds it.
        """
        path = Path(path)
        if not holds_json(path):
            raise InputError(f"{path}: is no JSON, expected a COCO file, such as conversion makes of tables")
        records = read_coco(path)
        if not records:
            raise InputError(f"{path}: holds no image")
        label_set = label_set_of_records(records, str(path))
        return cls(path, records, read_patients(path), path.absolute().parent.parent if path.parent == Path()
                   else path.parent.parent, _data_set(path, label_set, images))


def _data_set(path: Path, label_set: LabelSet, images: str | Path | None) -> str:
    """The data set's name: vindr_... for VinBigData's files and folders, else the label set's first word."""
    match = re.fullmatch(r"instances_(\w+)\.json", path.name)
    if match is None or path.absolute().parent.name != "annotations":
        raise InputError(f"{path}: is not where a config finds it, expected "
                         "DATA_ROOT/annotations/instances_<name>.json")
    named = f"vindr_{match[1]}"
    if label_set.findings == VINBIGDATA.findings and _is_shipped(named) and (
            images is None or resolve(named, path.parent.parent, images).images.is_dir()):
        return named
    return f"{_slug(_set_name(path, label_set))}_{match[1]}"


def _is_shipped(name: str) -> bool:
    try:
        return bool(resolve(name, "."))
    except InputError:
        return False


def _slug(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "data"


def _set_name(path: Path, label_set: LabelSet) -> str:
    """What VINDR.LABEL_SET says: a set's own name, or that of DATA_ROOT where the file names none."""
    if label_set.name in LABEL_SETS:
        return label_set.name
    name = path.absolute().parent.parent.name if label_set.name == path.stem else label_set.name
    try:
        ast.literal_eval(name)  # the config library would take "2024" for a number
    except (ValueError, SyntaxError):
        return name if name in LABEL_SETS or name.strip() else "own findings"
    return f"{name} findings"


def write_plan(
    out: str | Path, base: str | Path, annotations: str | Path, validation: str | Path | None = None,
    images: str | Path | None = None, budget: Budget | None = None,
) -> str:
    """Write a config for annotations, every value with its reason; returns its text.

    Args:
        out: YAML file to write.
        base: the config that it is based on.
        annotations: COCO file of the training images.
        validation: COCO file of the validation images; None trains without.
        images: folder of the images; None where they are below DATA_ROOT.
        budget: of the training; None for none.

    Raises:
        InputError: faulty or mixed annotations, an image or a patient in both files, or no box; nothing is
            written then.
    """
    load_config(base, _engine_of(base))
    recipe = Recipe.of(load_yaml(base))
    train = Annotated.read(annotations, images)
    held_out = None if validation is None else Annotated.read(validation, images)
    if held_out is not None:
        _check_parts(train, held_out)
    fingerprint = fingerprint_of(train.records, train.patient_of, str(train.path))
    files = None if images is None else measure_files(
        train.records, resolve(train.name, train.root, images).images, str(train.path))
    settings = [*_data_settings(out, fingerprint, train, held_out, images),
                *plan(fingerprint, recipe, budget, files, len(held_out.records) if held_out else 0)]
    text = as_yaml(settings, [*_title(out, fingerprint, train), *notes(fingerprint)],
                   _base(Path(base).absolute(), Path(out).absolute().parent))
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
        load_config(temporary, _engine_of(temporary))
    return text


def _engine_of(config: str | Path) -> str:
    engine = requested_engine(config)
    return "torchvision" if engine == "auto" else engine


def _base(base: Path, folder: Path) -> str:
    """The recipe's path from a config in ``folder``: relative within the folder that holds both."""
    above = base.parent.parent
    return os.path.relpath(base, folder) if folder.is_relative_to(above) else str(base)


def _check_parts(train: Annotated, held_out: Annotated) -> None:
    label_sets = [label_set_of_records(part.records) for part in (train, held_out)]
    if label_sets[0].findings != label_sets[1].findings:
        raise InputError(f"{held_out.path}: has other findings ({', '.join(label_sets[1].findings)}) than "
                         f"{train.path}, expected the same")
    if train.root.absolute() != held_out.root.absolute():
        raise InputError(f"{held_out.path}: is below another folder than {train.path}, expected both in "
                         f"{train.root / 'annotations'}")
    parts = {f"--annotations {train.path}": train, f"--val {held_out.path}": held_out}
    check_disjoint_patients({name: [record.image_id for record in part.records]
                             for name, part in parts.items()})
    check_disjoint_patients({name: part.patient_of.values() for name, part in parts.items()}, "patient")


def _title(out: str | Path, fingerprint: Fingerprint, train: Annotated) -> Iterator[str]:
    yield (f"Made by vindr-det plan of {train.path.name}: {len(fingerprint.shapes)} images, "
           f"{fingerprint.normal.sum()} of them normal, {len(fingerprint.labels)} boxes"
           f"{'' if fingerprint.patients is None else f', {fingerprint.patients} patients'}.")
    yield ""
    yield f"  vindr-det train --config {out}"
    yield ""


def _data_settings(
    out: str | Path, fingerprint: Fingerprint, train: Annotated, held_out: Annotated | None,
    images: str | Path | None,
) -> list[Setting]:
    label_set, name = fingerprint.label_set, _set_name(train.path, fingerprint.label_set)
    shipped = name in LABEL_SETS
    settings = [
        Setting("OUTPUT_DIR", f"outputs/{Path(out).stem}", "this file's name"),
        Setting("VINDR.LABEL_SET", name, f"the annotations' categories: {len(label_set)} findings"),
        Setting("VINDR.FINDINGS", [] if shipped else list(label_set.findings),
                "those of the shipped set" if shipped else "the categories, by their ids"),
        Setting("VINDR.BEST_METRIC", label_set.mean_ap, "mean PASCAL VOC AP at IoU > .4 over these findings"),
        Setting("VINDR.DATA_ROOT", str(train.root), "holds annotations/"),
        Setting("VINDR.IMAGE_ROOT", str(images or ""), "holds the images" if images else
                f"the images are in {resolve(train.name, train.root).images}"),
        Setting("DATASETS.TRAIN", [train.name], train.path.name)]
    if held_out is None:
        return [*settings, Setting("VINDR.VALIDATION", [], "none given: model_final.pth is the model")]
    validated = fingerprint_of(held_out.records)
    few = ", ".join(f"{name} ({count})" for name, count in validated.too_few().items())
    told = f"{len(held_out.records)} images, {len(validated.labels)} boxes" + (
        f"; on fewer than {MIN_IMAGES} of them: {few}" if few else "")
    return [*settings, Setting("DATASETS.TEST", [held_out.name], "what predict --dataset takes"),
            Setting("VINDR.VALIDATION", [held_out.name], told)]
