"""Gates: what a classifier's probabilities for the whole image do to the detector's boxes.

Class 14 is a class of the metric like the others, so the probability of "no finding" goes into every image's
row as ``14 (1-p) 0 0 1 1`` with p = P(abnormal). The popular notebook writes p itself, which ranks normal
images above abnormal ones.

Each form is one class, listed in :data:`FORMS`. A new form is a frozen dataclass that derives from
:class:`Gate` and is in that list: ``vindr-det gate fit`` tries its ``grid``, ``tune`` searches over
its ``suggest``, ``gate apply`` and ``predict`` read it from JSON.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Any, ClassVar

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions, PredictionSet, no_finding, with_no_finding
from vindr_det.structures.label_sets import LabelSet

_LOWS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_HIGHS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.01)


@dataclass(frozen=True)
class Gate(ABC):
    """One form of gate; a subclass's fields are its parameters, which it checks when it is made.

    Attributes:
        form: the name in files and tables.
        needs_classifier: False for a form that works without classifier outputs.
        needs_findings: True for a form that needs a probability of each finding.
    """

    form: ClassVar[str]
    needs_classifier: ClassVar[bool] = True
    needs_findings: ClassVar[bool] = False

    @abstractmethod
    def apply(self, boxes: Predictions, output: ClassifierOutput | None) -> Predictions:
        """Gate one image.

        Args:
            boxes: of findings; none of class 14.
            output: of the classifier; None only for a form that needs no classifier.

        Returns:
            The boxes as this form leaves them, and mostly a row of class 14.

        Raises:
            InputError: this form needs an output, or its probabilities of findings, and there is none.
        """

    @classmethod
    def grid(cls) -> Sequence["Gate"]:
        """What ``gate.py fit`` tries: each parameter over its whole range, so no best is at an arbitrary end.

        A form without parameters has one entry.
        """
        return [cls()]

    @classmethod
    def suggest(cls, trial: Any) -> "Gate":
        """One point of the search space of ``tune``, from an Optuna trial; names as in the fields."""
        return cls()

    @property
    def parameters(self) -> dict[str, float]:
        """Parameter name -> value; as trial parameters they are the point at which ``suggest`` gives this."""
        return asdict(self)

    def as_json(self) -> dict[str, Any]:
        """What :func:`gate_from_json` reads."""
        return {"form": self.form, **self.parameters}

    def __str__(self) -> str:
        return " ".join([self.form, *(f"{name} {value:g}" for name, value in self.parameters.items())])


@dataclass(frozen=True)
class NoClassifier(Gate):
    """Form ``none``: 1 - the highest box score takes the place of the classifier."""

    form = "none"
    needs_classifier = False

    def apply(self, boxes: Predictions, output: ClassifierOutput | None) -> Predictions:
        return with_no_finding({"": boxes})[""]


@dataclass(frozen=True)
class Append(Gate):
    """Form ``append``: boxes stay, class 14 is added with score 1 - p."""

    form = "append"

    def apply(self, boxes: Predictions, output: ClassifierOutput | None) -> Predictions:
        return boxes + _no_finding(output, boxes.label_set)


@dataclass(frozen=True)
class Hard(Gate):
    """Form ``hard``: class 14 alone where p < low, boxes alone where p >= high, between them both.

    Attributes:
        low: 0..1.
        high: ``low`` or more; above 1, class 14 is never left out.

    Raises:
        InputError: the parameters are out of range or out of order.
    """

    low: float = 0.0
    high: float = 1.0
    form = "hard"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= 1 or not self.low <= self.high:
            raise InputError(f"gate hard: low {self.low}, high {self.high}, expected 0 <= low <= 1 and "
                             "low <= high")

    def apply(self, boxes: Predictions, output: ClassifierOutput | None) -> Predictions:
        p = _required(output).p_abnormal
        if p < self.low:
            return no_finding(label_set=boxes.label_set)
        return boxes if p >= self.high else boxes + _no_finding(output, boxes.label_set)

    @classmethod
    def grid(cls) -> Sequence[Gate]:
        return [cls(low, high) for low, high in product(_LOWS, _HIGHS) if low <= high]

    @classmethod
    def suggest(cls, trial: Any) -> Gate:
        low = trial.suggest_float("low", 0, 1)
        return cls(low, max(low, trial.suggest_float("high", 0, 1.01)))


@dataclass(frozen=True)
class Scale(Gate):
    """Form ``scale``: box scores are multiplied by p where p < low; class 14 is added with score 1 - p.

    Attributes:
        low: 0..1.

    Raises:
        InputError: the parameter is out of range.
    """

    low: float = 0.0
    form = "scale"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= 1:
            raise InputError(f"gate scale: low {self.low}, expected 0 <= low <= 1")

    def apply(self, boxes: Predictions, output: ClassifierOutput | None) -> Predictions:
        p = _required(output).p_abnormal
        scores = boxes.scores * p if p < self.low else boxes.scores
        return replace(boxes, scores=scores) + _no_finding(output, boxes.label_set)

    @classmethod
    def grid(cls) -> Sequence[Gate]:
        return [cls(low) for low in _LOWS]

    @classmethod
    def suggest(cls, trial: Any) -> Gate:
        return cls(trial.suggest_float("low", 0, 1))


@dataclass(frozen=True)
class Rescore(Gate):
    """Form ``rescore``: a box's score s becomes s^(1-power) * P(its finding)^power; class 14 is added.

    Attributes:
        power: 0..1.

    Raises:
        InputError: the parameter is out of range.
    """

    power: float = 0.0
    form = "rescore"
    needs_findings = True

    def __post_init__(self) -> None:
        if not 0 <= self.power <= 1:
            raise InputError(f"gate rescore: power {self.power}, expected 0 <= power <= 1")

    def apply(self, boxes: Predictions, output: ClassifierOutput | None) -> Predictions:
        findings, own = _required(output).findings, _required(output).label_set
        if findings is None or (len(boxes) and own.findings != boxes.label_set.findings):
            raise InputError("a gate of form rescore needs a probability of each finding of "
                             f"{boxes.label_set.name}, expected columns p_<finding>")
        scores = boxes.scores ** (1 - self.power) * findings[boxes.labels] ** self.power
        return replace(boxes, scores=scores).by_score() + _no_finding(output, boxes.label_set)

    @classmethod
    def grid(cls) -> Sequence[Gate]:
        return [cls(power / 10) for power in range(11)]

    @classmethod
    def suggest(cls, trial: Any) -> Gate:
        return cls(trial.suggest_float("power", 0, 1))


#: All forms, by name; fit, search, apply and predict read this list. The first is what fit compares with.
FORMS: dict[str, type[Gate]] = {form.form: form for form in (NoClassifier, Append, Hard, Scale, Rescore)}
#: What a classifier is used for without a fit, and where a search starts.
DEFAULT_GATE = Append()


def available_forms(with_findings: bool) -> list[type[Gate]]:
    """The forms that a classifier can serve: with or without a probability of each finding."""
    return [form for form in FORMS.values() if with_findings or not form.needs_findings]


def tells_findings(outputs: Mapping[str, ClassifierOutput]) -> bool:
    """Whether each of these outputs, of which there is one at least, has a probability of each finding."""
    return bool(outputs) and all(output.findings is not None for output in outputs.values())


def gate_all(
    gate: Gate, predictions: PredictionSet, outputs: Mapping[str, ClassifierOutput]
) -> dict[str, Predictions]:
    """Gate every image.

    Args:
        gate: any form.
        predictions: image id -> detections; class 14 rows in them are replaced.
        outputs: image id -> classifier output; may lack images where the gate needs no classifier.

    Raises:
        InputError: an image has no output, or the gate needs probabilities of findings and has none.
    """
    missing = predictions.keys() - outputs.keys() if gate.needs_classifier else ()
    if missing:
        raise InputError(f"no probability for image {min(missing)}, expected one for each image")
    return {image_id: gate.apply(detections.findings(), outputs.get(image_id))
            for image_id, detections in predictions.items()}


def gate_from_json(data: Mapping[str, Any]) -> Gate:
    """The gate that :meth:`Gate.as_json` describes.

    Files of earlier versions hold the parameters of all forms; those of the other forms are ignored.

    Raises:
        InputError: unknown form, or a parameter out of range.
        KeyError, TypeError: not a gate's JSON.
    """
    if data["form"] not in FORMS:
        raise InputError(f"gate form {data['form']!r}, expected one of {', '.join(FORMS)}")
    form = FORMS[data["form"]]
    known = {field.name for each in FORMS.values() for field in fields(each)}
    unknown = data.keys() - known - {"form"}
    if unknown:
        raise TypeError(f"unknown parameters {sorted(unknown)}")
    return form(**{field.name: data[field.name] for field in fields(form) if field.name in data})


def _required(output: ClassifierOutput | None) -> ClassifierOutput:
    if output is None:
        raise InputError("no probability for an image, expected a classifier for this form of gate")
    return output


def _no_finding(output: ClassifierOutput | None, label_set: LabelSet) -> Predictions:
    """Class 14 as the classifier scores it; nothing for a set without "no finding"."""
    return no_finding(1 - _required(output).p_abnormal, label_set)
