"""Files to a model: a detector's checkpoint or ONNX file, a classifier's folder, or a bundle of all."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path, PurePath
from typing import Any
from zipfile import ZipFile, is_zipfile

from vindr_det.api.functions import Overrides, arguments
from vindr_det.api.model import Device, Model, Source
from vindr_det.api.result import require_flag
from vindr_det.bundle.files import MANIFEST
from vindr_det.data.in_sample import refuse_in_sample
from vindr_det.detection.predictors import Changes
from vindr_det.exceptions import InputError
from vindr_det.files import ARCHIVE_ERRORS, existing_file, expanded, require_path
from vindr_det.postprocessing.tta import SCALES
from vindr_det.prediction import Models
from vindr_det.prediction_models import BACKENDS, adjusted, load_models, read_gate

_MODEL = "a checkpoint (.pth), an ONNX file, a classifier's folder or a bundle"
_DETECTORS = (".pth", ".onnx")


def load(
    source: str | Path | Sequence[str | Path], device: Device = "auto", *,
    classifier: str | Path | None = None, gate: str | Path | None = None, tta_scales: Sequence[float] = (),
    iou_thr: float | None = None, half: bool = False, backend: str = "torch", overrides: Overrides = (),
) -> Model:
    """Load a model.

    Args:
        source: a detector's checkpoint (model_best.pth) or ONNX file; a list of these, whose boxes are fused;
            a classifier's folder; or a bundle: its folder or file, the name of a shipped one, or one on a
            hub.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, or a GPU's number; ONNX files run on the CPU.
        classifier: folder of a classifier beside detectors.
        gate: file of ``vindr-det gate fit`` or ``vindr-det tune``; None appends "no finding".
        tta_scales: factors of the test size for test-time augmentation, mirrored too; empty for none.
        iou_thr: of the fusion of several detectors; None takes 0.4, or a bundle's own.
        half: compute in half precision (on a GPU).
        backend: ``onnx`` computes the detectors' heavy parts in ONNX Runtime: on a CPU the same boxes,
            sooner.
        overrides: KEY VALUE of the checkpoints' configs, as at the end of ``vindr-det predict``.

    Raises:
        InputError: there is no such file, it is none of these, or an option does not go with it.
    """
    source = [*map(expanded, source)] if isinstance(source, list | tuple) else expanded(source)
    classifier, gate, paths = expanded(classifier), expanded(gate), _paths(source)
    for name, path in (("classifier", classifier), ("gate", gate)):
        _require_path_or_none(name, path)
    require_flag("half", half)
    _check_numbers(tta_scales, iou_thr)
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r}: expected {' or '.join(BACKENDS)}")
    changes = Changes(arguments((), overrides, {}))
    adjust = partial(adjusted, tta_scales=tuple(tta_scales), iou_thr=iou_thr, backend=backend,
                     half=half)
    if not isinstance(source, str | Path) or _is_detector(source):
        _refuse_others(paths)
        return Model(_detectors(paths, classifier, gate, half, changes, adjust), device)
    beside = {"classifier": classifier, "gate": gate}
    if not _is_classifier(source):
        _refuse_file(Path(source))
        _refuse(source, beside)
        return Model(_bundle(source, half, changes, adjust), device)
    _refuse(source, {**beside, "tta_scales": tta_scales, "iou_thr": iou_thr, "half": half,
                     "backend": backend if backend != "torch" else "", "overrides": overrides})
    return Model(_classifier(source), device)


def _paths(source: Any) -> list[str | Path]:
    paths = list(source) if isinstance(source, list | tuple) else [source]
    if not paths:
        raise InputError("no detector is given, expected a checkpoint (.pth) or an ONNX file")
    for path in paths:
        require_path(path, _MODEL)
        if not isinstance(path, str | Path):
            raise InputError(f"{path!r}: expected {_MODEL}")
    return paths


def _require_path_or_none(name: str, path: Any) -> None:
    require_path(path, f"a {name}")
    if path is not None and not isinstance(path, str | Path):
        raise InputError(f"{name} {path!r}: expected a path")


def _check_numbers(tta_scales: Any, iou_thr: Any) -> None:
    least, most = SCALES
    if not isinstance(tta_scales, list | tuple) or not all(_is_number(scale) and least <= scale <= most
                                                           for scale in tta_scales):
        raise InputError(f"tta_scales {tta_scales!r}: expected a list of numbers from {least} to {most}")
    if iou_thr is not None and not (_is_number(iou_thr) and 0 <= iou_thr <= 1):
        raise InputError(f"iou_thr {iou_thr!r}: expected a number from 0 to 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _detectors(
    paths: Sequence[str | Path], classifier: str | Path | None, gate: str | Path | None, half: bool,
    changes: Changes, adjust: Callable[[Models], Models],
) -> Source:
    weights, read = [existing_file(path) for path in paths], read_gate(gate, classifier)
    return Source(
        ", ".join(map(str, weights)),
        lambda device: adjust(load_models(weights, classifier, read, device=device, half=half,
                                          changes=changes)),
        partial(refuse_in_sample, gate) if gate else lambda ids: None)


def _is_detector(path: str | Path) -> bool:
    return Path(path).suffix.lower() in _DETECTORS


def _is_classifier(path: str | Path) -> bool:
    return any(Path(path).glob("fold*.pth")) if Path(path).is_dir() else False


def _refuse_others(paths: Sequence[str | Path]) -> None:
    """Models of a list that are no detectors."""
    for path in paths:
        if not _is_detector(path):
            raise InputError(f"{path}: expected detectors in a list, checkpoints (.pth) or ONNX files; a "
                             "classifier's folder or a bundle is loaded alone")


def _refuse_file(path: Path) -> None:
    """A file that is no bundle, and has no name of another model."""
    if path.suffix.lower() == ".zip" or not path.is_file():
        return
    try:
        names = ZipFile(path).namelist() if is_zipfile(path) else []
    except (*ARCHIVE_ERRORS, ValueError) as error:
        raise InputError(f"{path}: a damaged .zip file ({error}), expected {_MODEL}") from error
    if not any(PurePath(name).name == MANIFEST for name in names):
        raise InputError(f"{path}: expected {_MODEL}")


def _refuse(path: str | Path, options: Mapping[str, Any]) -> None:
    """Options of detectors beside a classifier's folder or a bundle, which has its own."""
    given = [name for name, value in options.items() if value]
    if given:
        raise InputError(f"{path}: {given[0]} goes with a detector, expected a checkpoint or an ONNX file")


def _classifier(folder: str | Path) -> Source:
    from vindr_det.classification.predict import Classifier

    return Source(str(folder), lambda device: Models([], Classifier(folder, device=device)))


def _bundle(
    place: str | Path, half: bool, changes: Changes, adjust: Callable[[Models], Models]
) -> Source:
    from vindr_det.bundle.read import open_bundle

    bundle = open_bundle(place)
    return Source(str(place), lambda device: adjust(bundle.load(device, half, changes).models),
                  bundle.refuse_in_sample)
