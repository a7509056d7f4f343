"""A bundle to models that predict."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vindr_det.bundle import files as bundle_files
from vindr_det.bundle.files import CARD, BundleFiles
from vindr_det.bundle.manifest import require_manifest
from vindr_det.bundle.tensors import from_bytes
from vindr_det.data.in_sample import refuse_images_of
from vindr_det.detection import engine as engines
from vindr_det.detection.checkpoint import Checkpoint, require_engine
from vindr_det.detection.loading import checkpoint_of
from vindr_det.detection.predictors import NO_CHANGES, Changes, predictor_of
from vindr_det.exceptions import InputError
from vindr_det.postprocessing.fusion import DEFAULT_FUSION, Fusion
from vindr_det.postprocessing.gate import Gate
from vindr_det.postprocessing.gate_fit import saved_gate
from vindr_det.prediction import Models
from vindr_det.structures.label_sets import LabelSet, label_set_named, same_label_set

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A bundle, loaded.

    Attributes:
        models: what predicts.
        card: the model card, Markdown.
        notice: what is said at every use, such as that the models have seen synthetic images alone; or empty.
        label_set: of the detections.
        source: the place that it was read from.
        digest: SHA-256 of its manifest, which tells it from every other bundle.
    """

    models: Models
    card: str
    notice: str
    label_set: LabelSet
    source: str
    digest: str


def read_bundle(place: str | Path, device: str = "auto") -> Bundle:
    """Load a bundle and compare each of its files with the manifest's hash.

    A warning says the bundle's notice, if it has one.

    Args:
        place: a folder, a .zip file, ``hf://user/repo``, or the name of a shipped bundle, such as
            ``phantom``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        InputError: not a bundle, one that is cut short, changed or of a newer version, one of an engine that
            is not installed, or no such device.
    """
    return open_bundle(place).load(device)


def open_bundle(place: str | Path) -> "OpenBundle":
    """A bundle's files, before anything is loaded.

    Args:
        place: as of :func:`read_bundle`.

    Raises:
        InputError: there is no such bundle, or its manifest is damaged or of a newer version.
    """
    return OpenBundle(bundle_files.find(place))


class OpenBundle:
    """A bundle of which nothing is loaded yet.

    Args:
        files: its files.

    Attributes:
        notice: as of :class:`Bundle`.
        source: likewise.
        digest: likewise.
    """

    def __init__(self, files: BundleFiles) -> None:
        require_manifest(files.manifest, f"{files.source}: its {bundle_files.MANIFEST}")
        self._files, self.source = files, files.source
        self.notice, self.digest = files.manifest.get("notice", ""), files.digest

    @property
    def label_set(self) -> LabelSet:
        """Of its detections, by its manifest."""
        entry = self._files.manifest["label_set"]
        return label_set_named(entry["name"], tuple(entry["findings"]))

    def config(self) -> Any:
        """The config of its first detector."""
        return self._checkpoint(self._files.manifest["detectors"][0], None).cfg

    def refuse_in_sample(self, ids: Sequence[str]) -> None:
        """Refuse to apply its gate to images that it was fitted on.

        Raises:
            InputError: an image was used for the fit.
        """
        if name := self._files.manifest["gate"]:
            refuse_images_of(self._files.json(name), f"{self.source}: {name}", ids)

    def load(
        self, device: str = "auto", half: bool = False, changes: Changes = NO_CHANGES,
        engine: str | None = None,
    ) -> Bundle:
        """The bundle, loaded.

        Args:
            device: as of :func:`read_bundle`.
            half: compute in half precision.
            changes: of the detectors' configs.
            engine: refuse detectors of another engine; None takes any.

        Raises:
            InputError: as of :func:`read_bundle`.
        """
        try:
            models = self._models(device, half, changes, engine)
            card = self._files.read(CARD).decode("utf-8", "replace")
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.source}: its {bundle_files.MANIFEST} is damaged ({error!r})") from error
        log.info("%s: bundle %s", self.source, self._files.digest[:12])
        if self.notice:
            log.warning("%s: %s", self.source, self.notice)
        return Bundle(models, card, self.notice, self.label_set, self.source, self._files.digest)

    def _models(self, device: str, half: bool, changes: Changes, engine: str | None) -> Models:
        manifest, predictors = self._files.manifest, []
        for entry in manifest["detectors"]:
            checkpoint = self._checkpoint(entry, engine)
            predictors.append(predictor_of(checkpoint, self._at(entry), half, device, changes))
        label_set = same_label_set([self.label_set, *(predictor.label_set for predictor in predictors)],
                                   f"detectors of {self.source}")
        classifier = self._classifier(manifest["classifier"], device, label_set)
        gate = self._gate(label_set)
        if gate and gate.needs_classifier and not classifier:
            raise InputError(f"{self.source}: its gate of form {gate.form} expects a classifier")
        return Models(predictors, classifier, self._fusion(), gate, self.notice)

    def _at(self, entry: Mapping[str, Any]) -> str:
        return f"{self.source}: {entry['weights']}"

    def _checkpoint(self, entry: Mapping[str, Any], engine: str | None) -> Checkpoint:
        source = self._at(entry)
        require_engine(source, entry, engine)
        if entry["engine"] == "detectron2" and not engines.detectron2_is_here():
            raise InputError(f"{source}: was trained with Detectron2, which does not import here; see "
                             "INSTALL.md")
        meta = {**entry, "config": self._files.text(entry["config"])}
        state = from_bytes(self._files.read(entry["weights"]), source)
        return checkpoint_of({"model": state, "vindr": meta}, source)

    def _classifier(self, entry: Mapping[str, Any] | None, device: str, label_set: LabelSet) -> Any:
        if entry is None:
            return None
        from vindr_det.classification.model import trained_model
        from vindr_det.classification.operating_points import points_of
        from vindr_det.classification.predict import Classifier

        points = entry["points"]
        calibrations = {} if points is None else {
            column: of.calibration for column, of in
            points_of(self._files.json(points), f"{self.source}: {points}").items()}
        trained = []
        for model in entry["models"]:
            source = self._at(model)
            state = from_bytes(self._files.read(model["weights"]), source)
            meta = {**model, "config": self._files.text(model["config"])}
            trained.append(trained_model(state, meta, source))
        return Classifier.of_models(trained, calibrations, self.source, device, label_set)

    def _gate(self, label_set: LabelSet) -> Gate | None:
        name = self._files.manifest["gate"]
        return saved_gate(self._files.json(name), f"{self.source}: {name}").gate if name else None

    def _fusion(self) -> Fusion:
        options = self._files.manifest["fusion"]
        if options is None:
            return DEFAULT_FUSION
        weights = options["weights"]
        return Fusion(**options | {"weights": tuple(weights) if weights else None})
