"""What a bundle's manifest must say for its models to be loaded."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vindr_det.exceptions import InputError
from vindr_det.postprocessing.fusion import DEFAULT_FUSION

_ENGINES = ("detectron2", "torchvision")
_OF_MODEL = {"weights", "config", "classes"}
_OF_DETECTOR = {"metrics", "iteration"}


def require_manifest(manifest: Mapping[str, Any], place: str) -> None:
    """Check the entries of a bundle's models.

    Args:
        manifest: of :class:`vindr_det.bundle.files.BundleFiles`.
        place: of the manifest, for errors.

    Raises:
        InputError: an entry is not there, or not what it should be.
    """
    checks = (("detectors", _are_detectors, f"a list of detectors of {' or '.join(_ENGINES)}"),
              ("classifier", _is_classifier, "null, or models with a size in pixels"),
              ("gate", _is_name_or_none, "null, or the name of a file"),
              ("fusion", _is_fusion, "null, or the options of a fusion"),
              ("label_set", _is_label_set, "a name and findings"))
    for key, holds, expected in checks:
        if key not in manifest or not holds(manifest[key]):
            raise InputError(f"{place} is damaged ({key}: expected {expected})")
    if not isinstance(manifest.get("notice", ""), str):
        raise InputError(f"{place} is damaged (notice: expected a text)")


def _are_detectors(entries: Any) -> bool:
    return _are_models(entries) and all(entry.get("engine") in _ENGINES and entry.keys() >= _OF_DETECTOR
                                        for entry in entries)


def _is_classifier(entry: Any) -> bool:
    return entry is None or (isinstance(entry, dict) and "points" in entry
                             and _are_models(entry.get("models"))
                             and all(_is_size(model.get("size")) for model in entry["models"]))


def _are_models(entries: Any) -> bool:
    return isinstance(entries, list) and bool(entries) and all(
        isinstance(entry, dict) and entry.keys() >= _OF_MODEL and isinstance(entry["classes"], list)
        for entry in entries)


def _is_label_set(value: Any) -> bool:
    return (isinstance(value, dict) and isinstance(value.get("name"), str)
            and isinstance(value.get("findings"), list)
            and all(isinstance(finding, str) for finding in value["findings"]))


def _is_fusion(value: Any) -> bool:
    """Whether the types are those of the fields; the fusion itself checks their values."""
    return value is None or (isinstance(value, dict) and value.keys() == asdict(DEFAULT_FUSION).keys()
                             and isinstance(value["weights"], list | None)
                             and all(type(value[name]) in (int, float)
                                     for name in ("iou_thr", "skip_box_thr")))


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_name_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)
