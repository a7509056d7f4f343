"""Search of post-processing on validation predictions: fusion's options, boxes an image, the gate.

The images are dealt into two halves. Trials (Optuna's TPE; Bergstra et al., 2011) see the first alone; what
they found is then held against the defaults on the second, with a paired interval, so that the gain that is
told is of images that nothing was chosen on. Trials are kept in a journal beside the result; a search that
was interrupted, or is asked for more trials, goes on with it.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from vindr_det import __version__, gating, scoring
from vindr_det.annotations import read_sizes, shapes_of
from vindr_det.categories import NO_FINDING_ID
from vindr_det.errors import InputError
from vindr_det.files import existing_file, read_json, write_csv, write_json
from vindr_det.folds import assign_folds, label_matrix
from vindr_det.fusion import METHODS, Fusion, fuse_all
from vindr_det.gating import Gate, Word
from vindr_det.metrics import vindr
from vindr_det.metrics.bootstrap import Measured
from vindr_det.parallel import process_pool
from vindr_det.predictions import Predictions, PredictionSet
from vindr_det.records import Record, truth_of

_TRIALS_A_JOB = 4


@dataclass(frozen=True)
class Search:
    """What is searched over.

    Attributes:
        predictions: submissions on the validation images, one a model.
        annotations: of these images.
        meta: sizes of the originals, where the annotations are a table.
        oof: a classifier's probabilities out of fold; None leaves class 14 as the files have it, or as
            1 - the highest score where they do not tell it.
        seed: of the halves and of the trials.
    """

    predictions: tuple[str, ...]
    annotations: str
    meta: str | None = None
    oof: str | None = None
    seed: int = 0

    def fingerprint(self) -> str:
        """Tells searches over other files, or other contents, apart; reads them all."""
        digest = hashlib.sha256(str(self.seed).encode())
        for path in (*self.predictions, self.annotations, self.meta, self.oof):
            digest.update(existing_file(path).read_bytes() if path else b"-")
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Settings:
    """Post-processing as a whole; ``fusion`` None leaves a single file's boxes as they are."""

    fusion: Fusion | None = None
    gate: Gate | None = None


@dataclass(frozen=True)
class Inputs:
    """The files of a search, read.

    Attributes:
        files: one entry a model.
        sizes: image id -> (height, width).
        words: of the classifier; empty without one.
        halves: the records to search on, and those to hold the result against.
    """

    files: Sequence[PredictionSet]
    sizes: Mapping[str, tuple[int, int]]
    words: Mapping[str, Word]
    halves: tuple[Sequence[Record], Sequence[Record]]

    @property
    def tells_findings(self) -> bool:
        """Whether the classifier gives a probability of each finding."""
        return bool(self.words) and all(word.findings is not None for word in self.words.values())

    def processed(self, settings: Settings, half: int) -> PredictionSet:
        """One half's predictions after fusion and gate."""
        sizes = {one.image_id: self.sizes[one.image_id] for one in self.halves[half]}
        files = [{i: found for i, found in one.items() if i in sizes} for one in self.files]
        if settings.fusion is None:
            fused = {i: files[0].get(i, Predictions()) for i in sizes}
        else:
            fused = fuse_all(files, sizes, settings.fusion, workers=1)
        gate = settings.gate or Gate("none")
        if settings.gate is None and any((one.labels == NO_FINDING_ID).any() for one in fused.values()):
            return fused
        return gate.apply(fused, self.words)

    def score(self, settings: Settings, half: int) -> float:
        """vindr/mAP40."""
        return vindr.evaluate(self.processed(settings, half), truth_of(self.halves[half])).mean_ap


def read_inputs(search: Search) -> Inputs:
    """Read the files and deal the images.

    Raises:
        InputError: a faulty file, a swapped sign, or too few images.
    """
    from vindr_det.submission import read_submission

    files = [read_submission(path) for path in search.predictions]
    known = set().union(*files)
    records = [one for one in scoring.read_truth(search.annotations, search.meta) if one.image_id in known]
    if len(records) < 4:
        raise InputError(f"{search.annotations}: {len(records)} of its images have predictions, expected 4 "
                         "or more")
    words: Mapping[str, Word] = {}
    if search.oof:
        words = gating.read_words(search.oof)
        gating.check_sign({i: word.p_abnormal for i, word in words.items()},
                          {one.image_id: not one.normal for one in records}, search.oof)
        missing = [one.image_id for one in records if one.image_id not in words]
        if missing:
            raise InputError(f"{search.oof}: no probability for image {missing[0]} ({len(missing)} in all)")
    half = assign_folds(label_matrix(records), 2, search.seed)
    halves = tuple([one for one, mine in zip(records, half, strict=True) if mine == part] for part in (0, 1))
    sizes = {one.image_id: (one.height, one.width) for one in records}
    if search.meta:
        sizes = shapes_of(read_sizes(search.meta))
    return Inputs(files, sizes, words, (halves[0], halves[1]))


@lru_cache(maxsize=1)
def _inputs_once(search: Search, name: str) -> Inputs:
    """:func:`read_inputs`, once a process for the contents that ``name`` stands for."""
    return read_inputs(search)


def defaults(search: Search) -> Settings:
    """What is done without a search: a single file as it is, several by WBF; the soft gate."""
    return Settings(Fusion() if len(search.predictions) > 1 else None, Gate("append") if search.oof else None)


def suggest(trial: Any, search: Search, tells_findings: bool) -> Settings:
    """One point of the space, from Optuna's trial."""
    several = len(search.predictions) > 1
    method = trial.suggest_categorical("method", METHODS if several else ("nms", "wbf"))
    weights = tuple(trial.suggest_float(f"weight{at}", 0.25, 4, log=True)
                    for at in range(len(search.predictions))) if several else None
    fusion = Fusion(method, trial.suggest_float("iou_thr", 0.15, 0.75),
                    trial.suggest_float("skip_box_thr", 1e-4, 0.2, log=True), weights,
                    max_boxes=trial.suggest_int("max_boxes", 10, 200, log=True))
    return Settings(fusion, _suggest_gate(trial, tells_findings) if search.oof else None)


def _suggest_gate(trial: Any, tells_findings: bool) -> Gate:
    forms = [form for form in gating.FORMS if form != "rescore" or tells_findings]
    form = trial.suggest_categorical("gate", forms)
    if form == "hard":
        low = trial.suggest_float("low", 0, 0.5)
        return Gate(form, low, trial.suggest_float("high", 0.5, 1))
    if form == "scale":
        return Gate(form, trial.suggest_float("low", 0, 0.5))
    return Gate(form, power=trial.suggest_float("power", 0, 0.9)) if form == "rescore" else Gate(form)


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        settings: the best of the first half, or the defaults where none was better.
        default: mAP40 of the defaults on the second half.
        tuned: mAP40 of the settings on the second half.
        gain: their difference with its paired interval.
        trials: a row a trial.
        images: of both halves.
    """

    settings: Settings
    default: float
    tuned: float
    gain: Measured
    trials: pd.DataFrame = field(repr=False)
    images: Sequence[str] = field(repr=False, default=())

    def text(self) -> str:
        """Honest words: whether the gain is more than chance."""
        verdict = ("improves on the defaults" if self.gain.low > 0 else
                   "is worse than the defaults" if self.gain.high < 0 else
                   "is not told apart from the defaults")
        return (f"{len(self.trials)} trials; on the half that they have not seen: defaults "
                f"{self.default:.4f}, tuned {self.tuned:.4f}, gain {self.gain.value:+.4f} "
                f"[{self.gain.low:+.4f}, {self.gain.high:+.4f}]: {verdict}\n{_parameters(self.settings)}")


def tune(search: Search, out: Path, trials: int, workers: int | None = None, resamples: int = 1000) -> Tuned:
    """Search, hold the result against the defaults, and write ``out`` and ``<out>.trials.csv``.

    Args:
        search: the files.
        out: JSON; its journal is ``<out>.journal``.
        trials: in all, with those that the journal has.
        workers: processes; None takes one a core.
        resamples: of the interval.

    Raises:
        InputError: a faulty file, or Optuna is not installed.
    """
    name = search.fingerprint()
    inputs = _inputs_once(search, name)
    journal = out.with_suffix(".journal")
    out.parent.mkdir(parents=True, exist_ok=True)
    done = len(_finished(_study(name, journal)))
    missing = trials - done
    jobs = [(done + start, min(_TRIALS_A_JOB, missing - start)) for start in range(0, missing, _TRIALS_A_JOB)]
    with tqdm(total=trials, initial=trials - max(missing, 0), desc="tune", unit="trial", disable=None) as bar:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                bar.update(_run(search, name, journal, job))
        else:
            with process_pool(workers, len(jobs)) as pool:
                for count in pool.map(partial(_run, search, name, journal), jobs):
                    bar.update(count)
    tuned = _held_against_defaults(search, inputs, _study(name, journal), resamples)
    write_csv(out.with_suffix(".trials.csv"), tuned.trials)
    save(out, search, tuned)
    return tuned


def _study(name: str, journal: Path) -> Any:
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise InputError("the package optuna is not installed; pip install 'vindr_det[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(study_name=name, storage=storage, direction="maximize",
                               load_if_exists=True)


def _finished(study: Any) -> list[Any]:
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def _run(search: Search, name: str, journal: Path, job: tuple[int, int]) -> int:
    """Some trials (number of the first, count), in this process; the journal is shared with all others."""
    import optuna

    inputs, study = _inputs_once(search, name), _study(name, journal)
    first, count = job
    # With the same seed each process, and each resume, would try the same points.
    study.sampler = optuna.samplers.TPESampler(seed=search.seed * 10_000 + first, constant_liar=True)

    def objective(trial: Any) -> float:
        score = inputs.score(suggest(trial, search, inputs.tells_findings), 0)
        return 0.0 if math.isnan(score) else score

    study.optimize(objective, n_trials=count)
    return count


def _held_against_defaults(search: Search, inputs: Inputs, study: Any, resamples: int) -> Tuned:
    from optuna.trial import FixedTrial

    base = defaults(search)
    settings = base
    if _finished(study) and study.best_value > inputs.score(base, 0):
        settings = suggest(FixedTrial(study.best_params), search, inputs.tells_findings)
    bootstrap = scoring.images_resampled(inputs.halves[1], resamples, search.seed)
    found = scoring.Difference.of(*(scoring.mean_ap(inputs.processed(one, 1), inputs.halves[1], bootstrap)
                                    for one in (settings, base)))
    images = sorted(one.image_id for half in inputs.halves for one in half)
    return Tuned(settings, found.b, found.a, found.gain,
                 study.trials_dataframe(attrs=("number", "value", "params", "duration", "state")), images)


def save(path: Path, search: Search, tuned: Tuned) -> None:
    """Write the settings with what they were found on; ``gate.py apply`` takes the file as a gate."""
    fusion, gate = tuned.settings.fusion, tuned.settings.gate
    write_json(path, {
        "fusion": asdict(fusion) if fusion else None, "gate": asdict(gate) if gate else None,
        "held_out": {"default": tuned.default, "tuned": tuned.tuned, "gain": tuned.gain.value,
                     "ci95": [tuned.gain.low, tuned.gain.high]},
        "trials": len(tuned.trials), "search": asdict(search), "images": list(tuned.images),
        "version": __version__,
    })


def read_tuned(path: str | Path) -> Fusion:
    """The fusion of a file that :func:`save` wrote.

    Raises:
        InputError: not one of ours, or the search found nothing better than to leave a file as it is.
    """
    data = read_json(path)
    try:
        options = data["fusion"]
        if options is None:
            raise InputError(f"{path}: the search kept a single file's boxes as they are; nothing to fuse")
        weights = options["weights"]
        return Fusion(**options | {"weights": tuple(weights) if weights else None})
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of tools/tune.py") from error


def _parameters(settings: Settings) -> str:
    parts = [str(one) for one in (settings.fusion, settings.gate) if one]
    return "\n".join(parts) or "the boxes as they are"
