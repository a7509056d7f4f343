"""What a bundle's manifest must say for its models to be loaded."""

from collections.abc import Mapping
from typing import Any

from vindr_det.exceptions import InputError

_ENGINES = ("detectron2", "torchvision")


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
              ("label_set", lambda value: isinstance(value, dict), "a name and findings"))
    for key, holds, expected in checks:
        if key not in manifest or not holds(manifest[key]):
            raise InputError(f"{place} is damaged ({key}: expected {expected})")
    if not isinstance(manifest.get("notice", ""), str):
        raise InputError(f"{place} is damaged (notice: expected a text)")


def _are_detectors(entries: Any) -> bool:
    return _are_models(entries) and all(entry.get("engine") in _ENGINES for entry in entries)


def _is_classifier(entry: Any) -> bool:
    return entry is None or (isinstance(entry, dict) and _are_models(entry.get("models"))
                             and all(_is_size(model.get("size")) for model in entry["models"]))


def _are_models(entries: Any) -> bool:
    return isinstance(entries, list) and bool(entries) and all(isinstance(entry, dict) for entry in entries)


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_name_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)
