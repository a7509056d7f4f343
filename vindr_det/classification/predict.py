"""Classify images with a trained classifier: the mean of its folds' models, calibrated."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vindr_det.classification.data import Normalization, input_size, to_tensor
from vindr_det.classification.launch import devices
from vindr_det.classification.model import TrainedModel, find_checkpoints, load_checkpoint, predict_batch
from vindr_det.classification.operating_points import POINTS_FILE, number_of_point, read_points
from vindr_det.classification.probabilities import P_ABNORMAL, P_NO_FINDING, ClassifierOutput
from vindr_det.exceptions import InputError
from vindr_det.imaging import image_run
from vindr_det.imaging.image_run import ImageResult, ImageRun
from vindr_det.imaging.status import FAILED, FLAGGED, Status, status_text
from vindr_det.metrics.calibration import Calibration
from vindr_det.parallel import Failure, guarded
from vindr_det.spool import Spool, write_together
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet, column_of

log = logging.getLogger(__name__)

#: Images whose rows are made at once.
_AT_ONCE = 64


class Classifier:
    """The mean of all folds' models in a folder, calibrated.

    Args:
        folder: OUTPUT_DIR of a training; holds fold0.pth, fold1.pth, ...
        calibrated: apply the calibrations of ``operating_points.json``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        label_set: of the detector whose boxes it gates, for P of each finding.

    Attributes:
        columns: (K,) of the probabilities, such as ``p_abnormal``.
        models: one per fold.
        normalizations: of each model.
        target: the size that images are resized to, as in training.
        calibrations: column -> its calibration; empty where none is applied.

    Raises:
        InputError: no checkpoint, a file that is none, checkpoints of several trainings, or no such device.
    """

    def __init__(self, folder: str | Path, calibrated: bool = True, device: str = "auto",
                 label_set: LabelSet = VINBIGDATA) -> None:
        devices(device, source="--device")  # before the models are read
        trained = [load_checkpoint(path) for path in find_checkpoints(folder)]
        calibrations = {}
        if calibrated and (Path(folder) / POINTS_FILE).is_file():
            calibrations = {column: points.calibration for column, points in read_points(folder).items()}
        elif calibrated:
            log.warning("%s: has no %s, so its probabilities are not calibrated", folder, POINTS_FILE)
        self._set_up(trained, calibrations, folder, device, label_set)

    @classmethod
    def of_models(cls, trained: Sequence[TrainedModel], calibrations: Mapping[str, Calibration],
                  source: str | Path, device: str = "auto", label_set: LabelSet = VINBIGDATA) -> "Classifier":
        """A classifier of models that are loaded already.

        Args:
            trained: one per fold.
            calibrations: column -> its calibration.
            source: named in errors.
            device: as of the class, like ``label_set``.
            label_set: likewise.

        Raises:
            InputError: models of several trainings, or no such device.
        """
        classifier = cls.__new__(cls)
        classifier._set_up(trained, calibrations, source, device, label_set)
        return classifier

    def _set_up(self, trained: Sequence[TrainedModel], calibrations: Mapping[str, Calibration],
                folder: str | Path, device: str, label_set: LabelSet) -> None:
        self.device = torch.device(devices(device, source="--device")[0])
        if len({_inputs_and_outputs(model) for model in trained}) > 1:
            raise InputError(f"{folder}: its models differ in labels, size or normalization, expected those "
                             "of one training")
        self.models = [model.network.to(self.device) for model in trained]
        self.cfg, self.columns = trained[0].cfg, trained[0].columns
        self.normalizations = [model.normalize for model in trained]
        self.target = input_size(self.cfg.INPUT.SIZE)
        self.calibrations, self.label_set = dict(calibrations), label_set

    @torch.inference_mode()
    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """(B, K) means over the folds for (H, W) uint8 images, calibrated; with TEST_FLIP also mirrored."""
        batches = {normalize: self._batch(images, normalize) for normalize in set(self.normalizations)}
        parts = [predict_batch(model, batches[normalize], self.cfg.TEST_FLIP)
                 for model, normalize in zip(self.models, self.normalizations, strict=True)]
        mean = torch.stack(parts).mean(dim=0).double().cpu().numpy()
        for place, column in enumerate(self.columns):
            if column in self.calibrations:
                mean[:, place] = self.calibrations[column](mean[:, place])
        return mean

    def _batch(self, images: Sequence[NDArray[np.uint8]], normalize: Normalization) -> torch.Tensor:
        size = self.cfg.INPUT.SIZE
        return torch.stack([to_tensor(image, size, normalize) for image in images]).to(self.device)

    def __call__(self, image: NDArray[np.uint8]) -> ClassifierOutput:
        """P(abnormal), and P of each finding where it is predicted, of an (H, W) uint8 image.

        Raises:
            InputError: the classifier predicts neither p_abnormal nor p_no_finding.
        """
        return self.outputs([image])[0]

    def outputs(self, images: Sequence[NDArray[np.uint8]]) -> list[ClassifierOutput]:
        """:meth:`__call__` for several images, as one batch.

        Raises:
            InputError: as there.
        """
        return [self._output(row) for row in self.probabilities(images).tolist()]

    def _output(self, row: Sequence[float]) -> ClassifierOutput:
        values = dict(zip(self.columns, row, strict=True))
        names = [column_of(name) for name in self.label_set.findings]
        findings = np.array([values[name] for name in names]) if set(names) <= set(values) else None
        if P_ABNORMAL in values:
            return ClassifierOutput(values[P_ABNORMAL], findings, self.label_set, values)
        if P_NO_FINDING in values:
            return ClassifierOutput(1 - values[P_NO_FINDING], findings, self.label_set, values)
        raise InputError(f"the classifier predicts {', '.join(self.columns)}, expected {P_ABNORMAL} or "
                         f"{P_NO_FINDING}")


def _inputs_and_outputs(model: TrainedModel) -> tuple[Any, ...]:
    """What the models of one training share; INPUT.NORMALIZE dataset differs from fold to fold."""
    kind = model.cfg.INPUT.NORMALIZE
    return *model.columns, model.cfg.INPUT.SIZE, kind if kind == "dataset" else model.normalize


def read_thresholds(folder: str | Path, point: str = "youden") -> dict[str, float]:
    """Column -> threshold at an operating point, of the labels that have it.

    Args:
        folder: of the classifier.
        point: name of the operating point; or a number, the threshold of all labels.

    Raises:
        InputError: the training is not finished, no label has such a point, or a number is not of 0 to 1.
    """
    threshold = number_of_point(point)
    if threshold is not None:
        return dict.fromkeys(load_checkpoint(find_checkpoints(folder)[0]).columns, threshold)
    points = read_points(folder)
    thresholds = {column: label.thresholds[point] for column, label in points.items()
                  if point in label.thresholds}
    if not thresholds:
        known = sorted({name for label in points.values() for name in label.thresholds})
        raise InputError(f"--point {point}: the classifier has {', '.join(known) or 'none'}; a number from 0 "
                         "to 1 is a threshold of all labels")
    return thresholds


def classify(
    classifier: Classifier, run: ImageRun, thresholds: Mapping[str, float], workers: int | None = None
) -> tuple[pd.DataFrame, list[Status]]:
    """Probabilities of all images that can be read, and a status for each input.

    Args:
        classifier: of one or several folds.
        run: of :func:`vindr_det.imaging.image_run.find`.
        thresholds: of :func:`read_thresholds`; labels without one have no ``decision_...``.
        workers: processes that read; None takes one per core.

    Returns:
        A row per image that was read: image_id, a ``p_...`` per label, ``decision_...`` 0 or 1, calibrated,
        warnings. An image that was not read has no row: a blank could be taken for 0.
    """
    pairs = list(classify_each(classifier, run, thresholds, workers))
    return pd.DataFrame([row for _, row in pairs if row is not None]), [status for status, _ in pairs]


def classify_each(
    classifier: Classifier, run: ImageRun, thresholds: Mapping[str, float] = MappingProxyType({}),
    workers: int | None = None, batch: int = 1,
) -> Iterator[tuple[Status, dict[str, Any] | None]]:
    """The status of each input, in order, and its row as of :func:`classify`, None where it failed.

    Args:
        classifier: as there, like ``run`` and ``thresholds``.
        run: likewise.
        thresholds: likewise; none without.
        workers: likewise; 0 reads in this process.
        batch: images per call of the networks.
    """
    results = image_run.read_all(run, classifier.target, workers, batch)
    while group := list(islice(results, batch)):
        yield from _classified(classifier, group, thresholds)


def _classified(
    classifier: Classifier, group: Sequence[ImageResult], thresholds: Mapping[str, float]
) -> Iterator[tuple[Status, dict[str, Any] | None]]:
    """A batch; where it fails, each image by itself, so that none takes the others with it."""
    images = [result.image.pixels for result in group if result.image]
    values = guarded(lambda pixels: iter(classifier.probabilities(pixels).tolist() if pixels else []), images)
    if isinstance(values, Failure) and len(group) > 1:
        for result in group:
            yield from _classified(classifier, [result], thresholds)
        return
    for result in group:
        if result.image is None:
            yield result.status, None
        elif isinstance(values, Failure):
            reason = f"was read, but not classified: {values.reason}"
            yield replace(result.status, status=FAILED, reason=reason), None
        else:
            yield result.status, _row(classifier, result.status, next(values), thresholds)


def _row(
    classifier: Classifier, status: Status, values: Sequence[float], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    row: dict[str, Any] = {"image_id": status.image_id, **dict(zip(classifier.columns, values, strict=True))}
    for column, threshold in thresholds.items():
        row[column.replace("p_", "decision_", 1)] = int(row[column] >= threshold)
    return row | {"calibrated": int(bool(classifier.calibrations)),
                  "warnings": status.reason if status.status == FLAGGED else ""}


@dataclass
class Written:
    """What is left of a run when its rows are written.

    Attributes:
        statuses: a row per input, in order.
        images: number of rows.
        warned: number of rows with warnings.
    """

    statuses: list[Status] = field(default_factory=list)
    images: int = 0
    warned: int = 0


def write(
    out: str | Path, table: Path, outcomes: Iterable[tuple[Status, dict[str, Any] | None]]
) -> Written:
    """Write the rows while they come, and the statuses; all or none.

    Args:
        out: CSV of the rows; none is there where no image was read.
        table: CSV of the statuses.
        outcomes: of :func:`classify_each`.

    Raises:
        InputError: a file cannot be written.
    """
    written, outcomes = Written(), iter(outcomes)
    with closing(Spool(Path(out))) as spool:
        while group := list(islice(outcomes, _AT_ONCE)):
            written.statuses += [status for status, _ in group]
            if rows := [row for _, row in group if row is not None]:
                spool.add(pd.DataFrame(rows).to_csv(index=False, lineterminator="\n",
                                                    header=not written.images))
            written.images += len(rows)
            written.warned += sum(bool(row["warnings"]) for row in rows)
        write_together({Path(out): spool if written.images else None,
                        table: status_text(written.statuses)})
    return written
