"""Search of post-processing on validation predictions: fusion's options, boxes an image, the gate.

The images are split into two halves. Trials (Optuna's TPE; Bergstra et al., 2011) see the first alone; what
they found is then held against the defaults on the second, with a paired interval, so that the gain that is
told is of images that nothing was chosen on. Each further report on the same images is counted, since whoever
reads them chooses. Trials are kept in a journal beside the result; a search that was interrupted, or is asked
for more trials, resumes with it.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from vindr_det import __version__
from vindr_det.classification.probabilities import (
    ClassifierOutput,
    check_not_inverted,
    find_probability_column,
    read_classifier_outputs,
)
from vindr_det.data import in_sample
from vindr_det.data.folds import assign_folds, label_matrix
from vindr_det.data.truth import read_truth
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json, read_json, write_json
from vindr_det.imaging.status import read_failed
from vindr_det.metrics import voc
from vindr_det.metrics.bootstrap import Estimate, image_bootstrap
from vindr_det.metrics.intervals import Difference
from vindr_det.metrics.voc import mean_ap
from vindr_det.parallel import process_pool
from vindr_det.postprocessing.fusion import Fusion, fuse_all
from vindr_det.postprocessing.gate import Gate
from vindr_det.postprocessing.search_space import Search, Settings, at_ends, default_point, defaults, suggest
from vindr_det.postprocessing.study_log import count_report, earlier_reports, open_study
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import NO_FINDING_ID
from vindr_det.structures.records import Record, truth_of
from vindr_det.tables import write_csv

_TRIALS_A_JOB = 4


@dataclass(frozen=True)
class Inputs:
    """The files of a search, read.

    Attributes:
        files: one entry per model.
        unread: per model, images that it was not shown.
        sizes: image id -> (height, width).
        words: of the classifier; empty without one.
        halves: the records to search on, and those to hold the result against.
    """

    files: Sequence[PredictionSet]
    unread: Sequence[Collection[str]]
    sizes: Mapping[str, tuple[int, int]]
    outputs: Mapping[str, ClassifierOutput]
    halves: tuple[Sequence[Record], Sequence[Record]]

    @property
    def tells_findings(self) -> bool:
        """Whether the classifier gives a probability of each finding."""
        return bool(self.outputs) and all(output.findings is not None for output in self.outputs.values())

    def processed(self, settings: Settings, half: int) -> PredictionSet:
        """One half's predictions after fusion and gate."""
        sizes = {record.image_id: self.sizes[record.image_id] for record in self.halves[half]}
        files = [{i: found for i, found in file.items() if i in sizes} for file in self.files]
        if settings.fusion is None:
            fused = {i: files[0].get(i, Predictions()) for i in sizes}
        else:
            fused = fuse_all(files, sizes, settings.fusion, workers=1, unread=self.unread)
        gate = settings.gate or Gate("none")
        if settings.gate is None and any((one.labels == NO_FINDING_ID).any() for one in fused.values()):
            return fused
        return gate.apply(fused, self.outputs)

    def score(self, settings: Settings, half: int) -> float:
        """vindr/mAP40."""
        return voc.evaluate(self.processed(settings, half), truth_of(self.halves[half])).mean_ap


def read_inputs(search: Search) -> Inputs:
    """Read the files and split the images.

    Raises:
        InputError: a faulty file, inverted labels, or too few images.
    """
    from vindr_det.submission import read_submission

    files = [read_submission(path) for path in search.predictions]
    if not search.meta and not holds_json(search.annotations):
        raise InputError(f"{search.annotations}: a .csv does not tell sizes; expected --meta too")
    known = set().union(*files)
    records = [one for one in read_truth(search.annotations, search.meta) if one.image_id in known]
    if len(records) < 4:
        raise InputError(f"{search.annotations}: {len(records)} of its images have predictions, expected 4 "
                         "or more")
    outputs: Mapping[str, ClassifierOutput] = {}
    if search.oof:
        outputs = read_classifier_outputs(search.oof)
        check_not_inverted({i: output.p_abnormal for i, output in outputs.items()},
                          {one.image_id: not one.normal for one in records}, search.oof,
                          search.allow_inverted)
        missing = [one.image_id for one in records if one.image_id not in outputs]
        if missing:
            raise InputError(f"{search.oof}: no probability for image {missing[0]} ({len(missing)} in all)")
    half = assign_folds(label_matrix(records), 2, search.seed)
    halves = tuple([one for one, mine in zip(records, half, strict=True) if mine == part] for part in (0, 1))
    sizes = {record.image_id: (record.height, record.width) for record in records}
    unread = [read_failed(path) for path in search.predictions]
    return Inputs(files, unread, sizes, outputs, (halves[0], halves[1]))


@lru_cache(maxsize=1)
def _inputs_once(search: Search, name: str) -> Inputs:
    """:func:`read_inputs`, once a process for the contents that ``name`` stands for."""
    return read_inputs(search)


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        settings: the best of the first half, or the defaults where none was better.
        default: mAP40 of the defaults on the second half.
        tuned: mAP40 of the settings on the second half.
        gain: their difference with its paired interval.
        trials: a row per trial.
        images: of both halves.
        uses: how often searches of this folder have reported on images of the second half, with this time.
        ends: options that may be better beyond what was searched, in words.
    """

    settings: Settings
    default: float
    tuned: float
    gain: Estimate
    trials: pd.DataFrame = field(repr=False)
    images: Sequence[str] = field(repr=False, default=())
    uses: int = 1
    ends: Sequence[str] = ()

    def text(self) -> str:
        """Honest words: whether the gain is more than chance."""
        verdict = ("improves on the defaults" if self.gain.low > 0 else
                   "is worse than the defaults" if self.gain.high < 0 else
                   "is not told apart from the defaults")
        seen = (f"note: these images are no longer unseen: this is report {self.uses} on them, and a gain on "
                "images that were chosen by flatters" if self.uses > 1 else "")
        found = (f"{len(self.trials)} trials; on the half that they have not seen: defaults "
                 f"{self.default:.4f}, tuned {self.tuned:.4f}, gain {self.gain.value:+.4f} "
                 f"[{self.gain.low:+.4f}, {self.gain.high:+.4f}]: {verdict}")
        lines = [found, seen, *(f"note: {end}" for end in self.ends), _parameters(self.settings)]
        return "\n".join(line for line in lines if line)


def tune(search: Search, out: Path, trials: int, workers: int | None = None, num_replicates: int = 1000) -> Tuned:
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
    study_log = out.with_suffix(".journal")
    out.parent.mkdir(parents=True, exist_ok=True)
    _default_first(search, name, study_log)
    jobs = _missing(search, name, study_log, trials)
    missing = sum(count for *_, count in jobs)
    with tqdm(total=trials, initial=trials - missing, desc="tune", unit="trial", disable=None) as bar:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                bar.update(_run(search, name, study_log, job))
        else:
            with process_pool(workers, len(jobs)) as pool:
                for count in pool.map(partial(_run, search, name, study_log), jobs):
                    bar.update(count)
    finished = {method: _finished(open_study(name, method, study_log)) for method in search.methods}
    holdout = [record.image_id for record in inputs.halves[1]]
    uses = 1 + earlier_reports(out, study_log, holdout)
    tuned = _held_against_defaults(search, inputs, finished, num_replicates, uses)
    count_report(open_study(name, search.methods[0], study_log), tuned.images)
    write_csv(out.with_suffix(".trials.csv"), tuned.trials)
    save(out, search, tuned)
    return tuned


#: A method, the number of the first trial, and how many.
_Job = tuple[str, int, int]


def _missing(search: Search, name: str, study_log: Path, trials: int) -> list[_Job]:
    """What is to be done yet, a few trials at a time, the methods in turns."""
    jobs: list[_Job] = []
    for method, share in search.shares(trials).items():
        done = len(_finished(open_study(name, method, study_log)))
        jobs += [(method, first, min(_TRIALS_A_JOB, share - first))
                 for first in range(done, share, _TRIALS_A_JOB)]
    return sorted(jobs, key=lambda job: job[1])


def _default_first(search: Search, name: str, study_log: Path) -> None:
    """Trial 0 is the defaults, so that no search ends below them on its own half."""
    method, point = search.methods[0], default_point(search)
    study = open_study(name, method, study_log)
    if not any(trial.params == point for trial in _finished(study)):
        study.enqueue_trial(point)
        _run(search, name, study_log, (method, 0, 1))


def _finished(study: Any) -> list[Any]:
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def _run(search: Search, name: str, study_log: Path, job: _Job) -> int:
    """Some trials in this process; the journal is shared with all others."""
    import optuna

    method, first, count = job
    inputs, study = _inputs_once(search, name), open_study(name, method, study_log)
    # With the same seed each process, and each resume, would try the same points.
    seed = np.random.SeedSequence([search.seed, search.methods.index(method), first]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=True)

    def objective(trial: Any) -> float:
        score = inputs.score(suggest(trial, search, method, inputs.tells_findings), 0)
        return 0.0 if math.isnan(score) else score

    study.optimize(objective, n_trials=count)
    return count


def _held_against_defaults(
    search: Search, inputs: Inputs, finished: Mapping[str, list[Any]], num_replicates: int, uses: int
) -> Tuned:
    from optuna.trial import FixedTrial

    base = defaults(search)
    settings, ends = base, []
    method, best = max(((method, trial) for method, trials in finished.items() for trial in trials),
                       key=lambda item: item[1].value)
    if best.value > inputs.score(base, 0):
        settings = suggest(FixedTrial(best.params), search, method, inputs.tells_findings)
        ends = at_ends(best.params, best.distributions)
    bootstrap = image_bootstrap(inputs.halves[1], num_replicates, search.seed)
    found = Difference.of(*(mean_ap(inputs.processed(one, 1), inputs.halves[1], bootstrap)
                                    for one in (settings, base)))
    images = sorted(one.image_id for half in inputs.halves for one in half)
    return Tuned(settings, found.b, found.a, found.gain, _trial_table(finished), images, uses, ends)


def _trial_table(finished: Mapping[str, list[Any]]) -> pd.DataFrame:
    """A row per trial of any method, in the order in which they began."""
    began = sorted(((trial.datetime_start, method, trial) for method, trials in finished.items()
                    for trial in trials), key=lambda item: item[:2])
    return pd.DataFrame([
        {"number": number, "value": trial.value, "duration": trial.duration, "method": method,
         **{f"params_{name}": value for name, value in sorted(trial.params.items())}}
        for number, (_, method, trial) in enumerate(began)])


def save(path: Path, search: Search, tuned: Tuned) -> None:
    """Write the settings with what they were found on; ``gate.py apply`` takes the file as a gate."""
    fusion, gate = tuned.settings.fusion, tuned.settings.gate
    write_json(path, {
        "fusion": asdict(fusion) if fusion else None, "gate": asdict(gate) if gate else None,
        "held_out": {"default": tuned.default, "tuned": tuned.tuned, "gain": tuned.gain.value,
                     "ci95": [tuned.gain.low, tuned.gain.high], "uses": tuned.uses},
        "trials": len(tuned.trials), "search": asdict(search), **in_sample.as_json(tuned.images),
        "probabilities": find_probability_column(search.oof)._asdict() if search.oof else None,
        "at_ends": list(tuned.ends), "version": __version__,
    })


def read_tuned(path: str | Path, files: int | None = None) -> Fusion:
    """The fusion of a file that :func:`save` wrote.

    Args:
        path: the file.
        files: how many are to be fused; None does not check it.

    Raises:
        InputError: not one of ours, the search found nothing better than to leave a file as it is, or it was
            over another number of files.
    """
    data = read_json(path)
    try:
        options, searched = data["fusion"], len(data["search"]["predictions"])
        if options is None:
            raise InputError(f"{path}: the search kept a single file's boxes as they are; nothing to fuse")
        weights = options["weights"]
        fusion = Fusion(**options | {"weights": tuple(weights) if weights else None})
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of tools/tune.py") from error
    if files not in (None, searched):
        raise InputError(f"{path}: was searched over {searched} files, expected as many and got {files}")
    return fusion


def order_note(path: str | Path, inputs: Sequence[str]) -> str:
    """What to tell of the files that the weights of a search are given to, by their order alone.

    Args:
        path: of a file that :func:`save` wrote.
        inputs: the files to be fused.

    Raises:
        InputError: they have the names of those that were searched over, in another order.
    """
    searched = read_json(path)["search"]["predictions"]
    names, given = ([Path(file).name for file in files] for files in (searched, inputs))
    if names == given or len(names) != len(given):
        return ""
    if sorted(names) == sorted(given):
        raise InputError(f"{path}: was searched over {' '.join(names)}, got {' '.join(given)}; expected the "
                         "same order, by which it weights them")
    pairs = ", ".join(f"{old} for {new}" for old, new in zip(searched, inputs, strict=True))
    return f"{path}: weights go by the order of the files: {pairs}"


def _parameters(settings: Settings) -> str:
    parts = [str(one) for one in (settings.fusion, settings.gate) if one]
    return "\n".join(parts) or "the boxes as they are"
