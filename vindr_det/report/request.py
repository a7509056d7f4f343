"""A request for a report: the files it is of, given one by one or as the folder of a run."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from vindr_det.data.splits import resolve
from vindr_det.exceptions import InputError
from vindr_det.files import existing_file
from vindr_det.limits import LARGEST_SIDE, MAX_PIXELS, require_limit, require_replicates, require_seed

#: Files and folders that the commands write, by their usual names; the first that is there is taken.
_PREDICTIONS = ("submission.csv", "predictions.csv", "best_predictions.json")
_DETECTORS, _CLASSIFIERS = (".", "detector"), (".", "classifier")
#: Options that name a file.
FILES = ("predictions", "annotations", "meta", "metrics", "gate", "patients")
_OOF, _METRICS = "oof_predictions.csv", "metrics.json"


@dataclass(frozen=True)
class ReportRequest:
    """The options of ``vindr-det report``; see there.

    Raises:
        InputError: an option is out of range, or there is nothing to report.
    """

    out: str
    run: str | None = None
    predictions: str | None = None
    annotations: str | None = None
    meta: str | None = None
    images: str | None = None
    recursive: bool = False
    metrics: str | None = None
    classifier: str | None = None
    training: str | None = None
    gate: str | None = None
    ledger: tuple[str, ...] = ()
    maps: str | None = None
    patients: str | None = None
    title: str | None = None
    score: float = 0.3
    cases: int = 200
    side: int = 1024
    bootstrap: int = 1000
    seed: int = 0
    workers: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise InputError(f"--score {self.score}: expected 0 to 1")
        if self.cases < 0:
            raise InputError(f"--cases {self.cases}: expected 0 or more")
        if not 64 <= self.side <= LARGEST_SIDE:
            raise InputError(f"--side {self.side}: expected 64 to {LARGEST_SIDE}")
        if not self.out.lower().endswith((".html", ".htm")):
            raise InputError(f"--out {self.out}: expected a name that ends in .html")
        if Path(self.out).is_dir():
            raise InputError(f"--out {self.out}: is a folder, expected a file")
        require_replicates(self.bootstrap, none=True)
        require_seed(self.seed)
        require_limit(self.max_pixels)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the options that give something to report."""
        names = ("predictions", "annotations", "metrics", "classifier", "training", "gate", "ledger")
        return tuple(name for name in names if getattr(self, name))


def completed(request: ReportRequest) -> ReportRequest:
    """The request with what ``--run`` leaves, where an option does not say otherwise.

    Raises:
        InputError: the folder is missing, nothing in it is known, or an option's file is missing.
    """
    if request.run is not None:
        request = _with_run(request, Path(request.run))
    if not request.parts:
        raise InputError("nothing to report: expected --run, --predictions, --annotations, --metrics, "
                         "--classifier, --training, --gate or --ledger")
    _require_present(request)
    return request


def _require_present(request: ReportRequest) -> None:
    for name in FILES:
        if getattr(request, name):
            existing_file(getattr(request, name))
    for path in request.ledger:
        existing_file(path)
    for name in ("classifier", "training", "maps"):
        folder = getattr(request, name)
        if folder and not Path(folder).is_dir():
            raise InputError(f"{folder}: no such folder (--{name})")
    if request.images and not Path(request.images).exists():
        raise InputError(f"{request.images}: no such file or folder (--images)")
    if request.maps and not request.images:
        raise InputError("--maps: expected --images, over which they are shown")


def _with_run(request: ReportRequest, run: Path) -> ReportRequest:
    if not run.is_dir():
        raise InputError(f"{run}: no such folder (--run)")
    known = {name: value for name, value in run_files(run).items() if not getattr(request, name)}
    if not known and not request.parts:
        raise InputError(f"{run}: holds nothing that a report shows, expected the folder of vindr-det train, "
                         "train-classifier, evaluate --out or demo")
    if request.predictions:  # what the run was scored with says nothing about other predictions
        for name in ("annotations", "images", "metrics"):
            known.pop(name, None)
    return replace(request, **known)


def run_files(run: Path) -> dict[str, Any]:
    """Option -> file or folder of a run, of those that are there."""
    training = _first(run, _DETECTORS, _is_detector)
    options: dict[str, Any] = {
        "predictions": _first(run, _PREDICTIONS, Path.is_file),
        "metrics": _first(run, (_METRICS,), _is_evaluation),
        "classifier": _first(run, _CLASSIFIERS, lambda folder: (folder / _OOF).is_file()),
        "training": training, "gate": _first(run, ("gate.json", "tuned.json"), Path.is_file),
        "annotations": _first(run, ("raw/test_annotations.csv",), Path.is_file),
        "meta": _first(run, ("raw/test_meta.csv",), Path.is_file),
        "images": _first(run, ("raw/test",), Path.is_dir),
        "ledger": tuple(map(str, sorted([*run.glob("*.trials.csv"), *run.glob("ledger.csv")])))}
    if options["predictions"] and options["predictions"].endswith(_PREDICTIONS[-1]) and training:
        options |= _validation_files(Path(training))
    return {name: value for name, value in options.items() if value}


def _first(run: Path, names: tuple[str, ...], fits: Any) -> str | None:
    return next((str(run / name) for name in names if fits(run / name)), None)


def _is_detector(folder: Path) -> bool:
    """Whether a folder has the lines of a detector's training."""
    path = folder / _METRICS
    return path.is_file() and (folder / "config.yaml").is_file() and '"iteration"' in _head(path)


def _is_evaluation(path: Path) -> bool:
    """Whether a metrics.json is of ``vindr-det evaluate``: a single object with an AP."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and any(key.endswith("/mAP40") for key in values)


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(1 << 20).decode("utf-8", "replace")


def _validation_files(training: Path) -> dict[str, str]:
    """Annotations and images of a detector's validation set, by its config, if they are there."""
    try:
        keys = yaml.safe_load((training / "config.yaml").read_text(encoding="utf-8"))["VINDR"]
        split = resolve(keys["VALIDATION"][0], keys["DATA_ROOT"], keys["IMAGE_ROOT"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, InputError):
        return {}
    places = {"annotations": split.annotations, "images": split.images}
    return {name: str(place) for name, place in places.items() if place is not None and place.exists()}


def as_text(request: ReportRequest) -> dict[str, str]:
    """Option -> what was given for it, without paths' folders, for the page's provenance."""
    paths = {*FILES, "run", "images", "classifier", "training", "maps"}
    shown = {}
    for field in fields(request):
        value = getattr(request, field.name)
        if value is None or value is False or value == () or field.name in ("out", "title", "workers"):
            continue
        names = [Path(part).name for part in value] if field.name == "ledger" else []
        shown[field.name] = ", ".join(names) or (Path(value).name if field.name in paths else str(value))
    return shown
