"""Trained models to a bundle, and a bundle from one place to another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from vindr_det import __version__
from vindr_det.bundle import card as model_card
from vindr_det.bundle import files as bundle_files
from vindr_det.bundle.card import CardFacts
from vindr_det.bundle.files import CARD
from vindr_det.bundle.read import Bundle, OpenBundle
from vindr_det.bundle.tensors import to_bytes
from vindr_det.classification.config import defaults as classifier_defaults
from vindr_det.classification.config import of_checkpoint
from vindr_det.classification.model import find_checkpoints
from vindr_det.classification.operating_points import POINTS_FILE
from vindr_det.config_schema import label_set_of_config, vindr_node
from vindr_det.detection.loading import checkpoint_of
from vindr_det.exceptions import InputError
from vindr_det.files import read_json
from vindr_det.postprocessing.gate_fit import require_label_set, saved_gate
from vindr_det.postprocessing.search_result import fusion_options
from vindr_det.structures.label_sets import LabelSet, same_label_set
from vindr_det.training.checkpoint_io import read_file

#: Name -> bytes.
Files = dict[str, bytes]
_GATE = "gate.json"
#: Keys of a classifier's config that name files of the machine that it was trained on.
_CLASSIFIER_PLACES = {"DATA": ("IMAGES", "PACKED", "LABELS", "VALIDATION", "TEST", "CALIBRATION"),
                      "MODEL": ("WEIGHTS",)}


@dataclass(frozen=True)
class Parts:
    """The files that a bundle is made of.

    Attributes:
        weights: the detectors' checkpoints, of either engine.
        classifier: folder of a classifier's training; None for none.
        gate: JSON of ``vindr-det gate fit``; None takes that of ``tuned``, or none.
        tuned: JSON of ``vindr-det tune``, whose fusion and gate are taken; None for none.
        metrics: ``metrics.json`` files, whose figures are in the model card.
    """

    weights: Sequence[str | Path]
    classifier: str | Path | None = None
    gate: str | Path | None = None
    tuned: str | Path | None = None
    metrics: Sequence[str | Path] = ()


def write_bundle(
    out: str | Path, parts: Parts, half: bool = False, facts: CardFacts | None = None, public: bool = False
) -> Bundle:
    """Put trained models and what belongs to them into a bundle, once it has been loaded as a test.

    Paths of the machine are left out of the configs.

    Args:
        out: a new folder, or a bundle's; a .zip file; or ``hf://user/repo``.
        parts: what goes in.
        half: store weights in half precision.
        facts: of the model card that the files do not know.
        public: whether a new repository of a hub can be read by all.

    Returns:
        The bundle, loaded on the CPU.

    Raises:
        InputError: a file that is none of these, parts that do not fit each other, or ``out`` cannot be
            written.
    """
    bundle_files.require_target(out)
    facts = model_card.require_facts(facts or CardFacts())
    detectors, files = _detectors(parts.weights, half)
    label_set = same_label_set([label_set_of_config(entry["cfg"]) for entry in detectors], "detectors "
                               + ", ".join(map(str, parts.weights)))
    classifier = _classifier(parts.classifier, half, files) if parts.classifier else None
    tuned = read_json(parts.tuned) if parts.tuned else None
    gate = _gate(parts, tuned, label_set, files)
    manifest = {
        "vindr_det": __version__, "precision": "half" if half else "single", "notice": facts.notice,
        "label_set": {"name": label_set.name, "findings": list(label_set.findings)},
        "detectors": [{key: value for key, value in entry.items() if key != "cfg"} for entry in detectors],
        "classifier": classifier,
        "fusion": fusion_options(tuned, str(parts.tuned), len(detectors)) if parts.tuned else None,
        "gate": gate,
    }
    whole = bundle_files.with_manifest(manifest, files)
    measured = {str(path): read_json(path) for path in parts.metrics}
    whole[CARD] = model_card.text(whole, [entry["cfg"] for entry in detectors], measured, facts).encode()
    bundle = OpenBundle(bundle_files.in_memory(whole, str(out))).load("cpu")
    bundle_files.write(out, whole, public)
    return bundle


def copy_bundle(place: str | Path, out: str | Path, public: bool = False) -> list[str]:
    """Copy a bundle, each of its files compared with the manifest: push to a hub, pull from it, pack or
    unpack.

    Args:
        place: as of :func:`vindr_det.bundle.read.read_bundle`.
        out: as of :func:`write_bundle`.
        public: likewise.

    Returns:
        The names of its files.

    Raises:
        InputError: no bundle, a file that was changed or cut short, or ``out`` cannot be written.
    """
    bundle_files.require_target(out)
    files = bundle_files.find(place).all()
    bundle_files.write(out, files, public)
    return list(files)


def _detectors(weights: Sequence[str | Path], half: bool) -> tuple[list[dict[str, Any]], Files]:
    """Entries of the manifest, each with its config as ``cfg``, and their files."""
    entries, files = [], Files()
    for number, path in enumerate(weights):
        if Path(path).suffix == ".onnx":
            raise InputError(f"{path}: an exported file, expected the checkpoint (.pth) that it was made of")
        data = read_file(path)
        checkpoint = checkpoint_of(data, path)
        names = {"weights": f"detector{number}.safetensors", "config": f"detector{number}.yaml"}
        files[names["weights"]] = to_bytes(checkpoint.state, half)
        files[names["config"]] = _portable(checkpoint.cfg).dump().encode()
        meta = {key: value for key, value in data["vindr"].items() if key != "config"}
        entries.append({**names, **meta, "metrics": _finite(meta["metrics"]), "cfg": checkpoint.cfg})
    return entries, files


def _portable(cfg: Any) -> Any:
    """A detector's config without the places of the machine that it was trained on."""
    cfg, defaults = cfg.clone(), vindr_node()
    cfg.OUTPUT_DIR = "./output"
    for place in ("DATA_ROOT", "IMAGE_ROOT", "PACKED"):
        cfg.VINDR[place] = defaults[place]
    if "://" not in cfg.MODEL.WEIGHTS or "@" in cfg.MODEL.WEIGHTS:
        cfg.MODEL.WEIGHTS = PurePath(cfg.MODEL.WEIGHTS).name
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without NaN, which is no JSON."""
    return {key: value for key, value in metrics.items() if value == value}


def _classifier(folder: str | Path, half: bool, files: Files) -> dict[str, Any]:
    """The entry of the manifest; its files are added."""
    models = []
    for number, path in enumerate(find_checkpoints(folder)):
        data = read_file(path)
        if "vindr_classifier" not in data:
            raise InputError(f"{path}: not a classifier's checkpoint")
        meta = dict(data["vindr_classifier"])
        names = {"weights": f"classifier{number}.safetensors", "config": f"classifier{number}.yaml"}
        files[names["weights"]] = to_bytes(data["model"], half)
        files[names["config"]] = _portable_classifier(meta.pop("config"), str(path)).encode()
        models.append({**meta, **names, "metrics": _finite(meta.get("metrics", {}))})
    points = Path(folder) / POINTS_FILE
    if points.is_file():
        files[POINTS_FILE] = points.read_bytes()
    return {"models": models, "points": POINTS_FILE if points.is_file() else None}


def _portable_classifier(text: str, source: str) -> str:
    """A classifier's config without the places of the machine that it was trained on."""
    cfg, defaults = of_checkpoint(yaml.safe_load(text), source), classifier_defaults()
    for section, keys in _CLASSIFIER_PLACES.items():
        for key in keys:
            cfg[section][key] = defaults[section][key]
    cfg.OUTPUT_DIR, cfg.DEVICE = defaults.OUTPUT_DIR, defaults.DEVICE
    return str(cfg.dump())


def _gate(parts: Parts, tuned: Any, label_set: LabelSet, files: Files) -> str | None:
    """The gate's name; its file is added, without the folders of what it was fitted on."""
    path, data = (parts.gate, read_json(parts.gate)) if parts.gate else (parts.tuned, tuned)
    if not isinstance(data, dict) or (path == parts.tuned and data.get("gate") is None):
        return None
    saved_gate(data, str(path))
    require_label_set(data, str(path), label_set)
    fitted_on = {name: {**file, "file": PurePath(file["file"]).name}
                 for name, file in data.get("fitted_on", {}).items()}
    files[_GATE] = bundle_files.json_bytes(data | ({"fitted_on": fitted_on} if fitted_on else {}))
    return _GATE
