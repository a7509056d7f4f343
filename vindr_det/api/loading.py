"""Files to a model: a detector's checkpoint or ONNX file, a classifier's folder, or a bundle of all."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vindr_det.api.functions import Overrides, arguments
from vindr_det.api.model import Model, Source
from vindr_det.data.in_sample import refuse_in_sample
from vindr_det.detection.predictors import Changes
from vindr_det.exceptions import InputError
from vindr_det.files import existing_file
from vindr_det.postprocessing.fusion import Fusion
from vindr_det.prediction import Models, load_models, read_gate

_DETECTORS = (".pth", ".onnx")


def load(
    source: str | Path | Sequence[str | Path], device: str = "auto", *,
    classifier: str | Path | None = None, gate: str | Path | None = None, tta_scales: Sequence[float] = (),
    iou_thr: float = 0.4, half: bool = False, overrides: Overrides = (),
) -> Model:
    """Load a model.

    Args:
        source: a detector's checkpoint (model_best.pth) or ONNX file; a list of these, whose boxes are fused;
            a classifier's folder; or a bundle: its folder or file, the name of a shipped one, or one on a
            hub.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; ONNX files run on the CPU.
        classifier: folder of a classifier beside detectors.
        gate: file of ``vindr-det gate fit`` or ``vindr-det tune``; None appends "no finding".
        tta_scales: factors of the test size for test-time augmentation, mirrored too; empty for none.
        iou_thr: of the fusion of several detectors.
        half: compute in half precision (on a GPU).
        overrides: KEY VALUE of the checkpoints' configs, as at the end of ``vindr-det predict``.

    Raises:
        InputError: there is no such file, it is none of these, or an option does not go with it.
    """
    paths = [source] if isinstance(source, str | Path) else list(source)
    options = {"classifier": classifier, "gate": gate, "tta_scales": tta_scales, "half": half,
               "overrides": overrides}
    if isinstance(source, str | Path) and not _is_detector(source):
        _refuse(source, options)
        return Model(_classifier(source) if _is_classifier(source) else _bundle(source), device)
    if not paths:
        raise InputError("no detector is given, expected a checkpoint (.pth) or an ONNX file")
    weights = [existing_file(path) for path in paths]
    build = partial(_detectors, weights, classifier, read_gate(gate, classifier),
                    tta_scales=tuple(tta_scales), half=half, fusion=Fusion(iou_thr=iou_thr),
                    changes=Changes(arguments((), overrides, {})))
    check = partial(refuse_in_sample, gate) if gate else None
    return Model(_source(", ".join(map(str, weights)), build, check), device)


def _detectors(weights: Sequence[Path], classifier: Any, gate: Any, device: str, **options: Any) -> Models:
    return load_models(weights, classifier, gate, device=device, **options)


def _source(
    name: str, build: Callable[[str], Models], check: Callable[[Sequence[str]], None] | None
) -> Source:
    return Source(name, build, check) if check else Source(name, build)


def _is_detector(path: str | Path) -> bool:
    return Path(path).suffix.lower() in _DETECTORS


def _is_classifier(path: str | Path) -> bool:
    return any(Path(path).glob("fold*.pth")) if Path(path).is_dir() else False


def _refuse(path: str | Path, options: Mapping[str, Any]) -> None:
    """Options of detectors beside a classifier's folder or a bundle, which has its own."""
    given = [name for name, value in options.items() if value]
    if given:
        raise InputError(f"{path}: {given[0]} goes with a detector's checkpoint or ONNX file, expected one")


def _classifier(folder: str | Path) -> Source:
    from vindr_det.classification.predict import Classifier

    return Source(str(folder), lambda device: Models([], Classifier(folder, device=device)))


def _bundle(place: str | Path) -> Source:
    from vindr_det.bundle.read import open_bundle

    bundle = open_bundle(place)
    return Source(str(place), lambda device: bundle.load(device).models, bundle.refuse_in_sample)
