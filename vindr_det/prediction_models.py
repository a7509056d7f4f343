"""Files to :class:`vindr_det.prediction.Models`: detectors, classifier and gate."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vindr_det.detection.predictors import NO_CHANGES, Changes, load_predictors
from vindr_det.exceptions import InputError
from vindr_det.postprocessing.gate import Gate
from vindr_det.postprocessing.tta import TTAPredictor
from vindr_det.prediction import Models

log = logging.getLogger(__name__)

#: What computes the detectors' networks.
BACKENDS = ("torch", "onnx")


def read_gate(path: str | Path | None, classifier: str | Path | None = None) -> Gate | None:
    """The gate of a file; None without one.

    Args:
        path: of ``vindr-det gate fit`` or ``vindr-det tune``.
        classifier: that gates; None for none.

    Raises:
        InputError: not such a file, or the gate needs a classifier.
    """
    if path is None:
        return None
    from vindr_det.postprocessing.gate_fit import read  # the metrics, which no other prediction needs

    gate = read(path).gate
    if gate.needs_classifier and not classifier:
        raise InputError(f"--gate {path}: a gate of form {gate.form} expects --classifier")
    return gate


def load_models(
    weights: Sequence[str | Path], classifier: str | Path | None = None, gate: Gate | None = None, *,
    device: str = "auto", engine: str | None = None, half: bool = False, changes: Changes = NO_CHANGES,
) -> Models:
    """Detectors, classifier and gate from their files.

    Args:
        weights: as of :func:`load_predictors`, like ``device``, ``engine``, ``half`` and ``changes``.
        classifier: folder of a training; None for none.
        gate: of :func:`read_gate`.
        device: where the networks run.
        engine: likewise.
        half: likewise.
        changes: likewise.

    Raises:
        InputError: a file that cannot be loaded.
    """
    predictors = load_predictors(weights, engine, half, device, changes)
    if not classifier:
        return Models(predictors, gate=gate)
    from vindr_det.classification.predict import Classifier  # timm, which detectors do without

    return Models(predictors, Classifier(classifier, device=device, label_set=predictors[0].label_set),
                  gate=gate)


def adjusted(
    models: Models, tta_scales: Sequence[float] = (), iou_thr: float | None = None, backend: str = "torch",
    half: bool = False,
) -> Models:
    """Models with test-time augmentation, with another fusion of several detectors, or on another backend.

    Args:
        models: of :func:`load_models`, or of a bundle.
        tta_scales: factors of the test size, mirrored too; empty for no augmentation.
        iou_thr: of the fusion; None keeps it.
        backend: ``torch``, or ``onnx`` to compute the detectors' heavy parts in ONNX Runtime.
        half: whether they were asked to compute in half precision.

    Raises:
        InputError: a number is out of range, or the detectors cannot run in ONNX Runtime.
    """
    if backend == "onnx":
        if half:  # float16 on a CPU would compute in float32, and say nothing here
            raise InputError("--backend onnx with --half: expected the CPU and float32")
        from vindr_det.detection.onnx_parts import with_onnx

        models = replace(models, predictors=[with_onnx(predictor) for predictor in models.predictors])
    if tta_scales:
        models = replace(models, predictors=[TTAPredictor(predictor, tta_scales)
                                             for predictor in models.predictors])
    if iou_thr is not None and len(models.predictors) == 1:
        log.warning("an IoU threshold of %g for the fusion changes nothing: there is one detector", iou_thr)
    return models if iou_thr is None else replace(models, fusion=replace(models.fusion, iou_thr=iou_thr))
