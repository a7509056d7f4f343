"""Search of post-processing on validation predictions: the options of the fusion, boxes per image, the gate.

The images are split into a search split and a holdout split. Trials (Optuna's TPE; Bergstra et al., 2011) see
the search split alone; their best is then compared with the defaults on the holdout split, with a paired
interval, so that the reported gain is on images that nothing was chosen on. Each further report on the same
images is counted, since its readers choose by it. Trials are kept in a search log beside the result; a
search that was interrupted, or is run again with more trials, resumes from it.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from vindr_det.classification.probabilities import (
    ClassifierOutput,
    check_not_inverted,
    read_classifier_outputs,
)
from vindr_det.data.folds import assign_folds, label_matrix
from vindr_det.data.truth import read_truth
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json
from vindr_det.imaging.sizes import read_sizes
from vindr_det.imaging.status import read_failed
from vindr_det.metrics import voc
from vindr_det.metrics.bootstrap import image_bootstrap
from vindr_det.metrics.intervals import Difference
from vindr_det.metrics.voc import mean_ap
from vindr_det.parallel import process_pool
from vindr_det.postprocessing.fusion import fuse_all
from vindr_det.postprocessing.gate import NoClassifier, gate_all, tells_findings
from vindr_det.postprocessing.gate_fit import warn_left_out
from vindr_det.postprocessing.search_result import Tuned, save
from vindr_det.postprocessing.search_space import Search, Settings, at_ends, default_point, defaults, suggest
from vindr_det.postprocessing.study_log import count_report, earlier_reports, log_path, open_study
from vindr_det.structures.detections import Predictions, PredictionSet, label_set_of
from vindr_det.structures.records import Record
from vindr_det.submission import read_submission, refuse_other_frame
from vindr_det.tables import write_csv

#: The images that trials are scored on, and those that the result is compared with the defaults on.
SEARCH, HOLDOUT = "search", "holdout"
_TRIALS_PER_JOB = 4


@dataclass(frozen=True)
class Inputs:
    """The files of a search, read.

    Attributes:
        files: one entry per model.
        unread: per model, images that it was not shown.
        sizes: image id -> (height, width).
        outputs: of the classifier; empty without one.
        splits: :data:`SEARCH` and :data:`HOLDOUT` -> their records.
    """

    files: Sequence[PredictionSet]
    unread: Sequence[Collection[str]]
    sizes: Mapping[str, tuple[int, int]]
    outputs: Mapping[str, ClassifierOutput]
    splits: Mapping[str, Sequence[Record]]

    def processed(self, settings: Settings, split: str) -> PredictionSet:
        """One split's predictions after fusion and gate."""
        fused = self._fused(settings, split)
        if settings.gate is not None:
            return gate_all(settings.gate, fused, self.outputs)
        if any(len(detections.findings()) < len(detections) for detections in fused.values()):
            return fused
        return gate_all(NoClassifier(), fused, {})

    def _fused(self, settings: Settings, split: str) -> PredictionSet:
        sizes = {record.image_id: self.sizes[record.image_id] for record in self.splits[split]}
        files = [{image_id: detections for image_id, detections in file.items() if image_id in sizes}
                 for file in self.files]
        if settings.fusion is None:
            empty = Predictions(label_set=label_set_of(self.files[0]))
            return {image_id: files[0].get(image_id, empty) for image_id in sizes}
        return fuse_all(files, sizes, settings.fusion, workers=1, unread=self.unread)

    def score(self, settings: Settings, split: str) -> float:
        """vindr/mAP40, or voc/mAP40 of another label set."""
        return voc.vindr_ap_of_records(self.processed(settings, split), self.splits[split]).mean_ap


def read_inputs(search: Search) -> Inputs:
    """Read the files and split the images.

    Raises:
        InputError: a faulty file, inverted labels, or too few images.
    """
    for path in search.predictions if search.meta else ():
        refuse_other_frame(path, read_sizes(str(search.meta)))
    files = [read_submission(path, annotations=search.annotations) for path in search.predictions]
    if not search.meta and not holds_json(search.annotations):
        raise InputError(f"{search.annotations}: a .csv has no image sizes; expected --meta too")
    annotated, predicted = read_truth(search.annotations, search.meta), set().union(*files)
    records = [record for record in annotated if record.image_id in predicted]
    warn_left_out(annotated, predicted)
    if len(records) < 4:
        raise InputError(f"{search.annotations}: {len(records)} of its images have predictions, expected 4 "
                         "or more")
    parts = assign_folds(label_matrix(records), 2, search.seed)
    splits = {name: [record for record, part in zip(records, parts, strict=True) if part == number]
              for number, name in enumerate((SEARCH, HOLDOUT))}
    return Inputs(files, [read_failed(path) for path in search.predictions],
                  {record.image_id: (record.height, record.width) for record in records},
                  _read_outputs(search, records), splits)


def _read_outputs(search: Search, records: Sequence[Record]) -> Mapping[str, ClassifierOutput]:
    """Of each record's image; none where the search has no classifier."""
    if not search.probabilities:
        return {}
    outputs = read_classifier_outputs(search.probabilities, label_set=records[0].label_set)
    check_not_inverted({image_id: output.p_abnormal for image_id, output in outputs.items()},
               {record.image_id: not record.normal for record in records}, search.probabilities,
               search.allow_inverted)
    missing = [record.image_id for record in records if record.image_id not in outputs]
    if missing:
        raise InputError(f"{search.probabilities}: no probability for image {missing[0]} "
                         f"({len(missing)} in all)")
    return outputs


@lru_cache(maxsize=1)
def _inputs_once(search: Search, name: str) -> Inputs:
    """:func:`read_inputs`, once per process for the contents that ``name`` stands for."""
    return read_inputs(search)


def tune(
    search: Search, out: Path, trials: int, workers: int | None = None, num_replicates: int = 1000
) -> Tuned:
    """Search, compare the result with the defaults, and write ``out`` and ``<out>.trials.csv``.

    Args:
        search: the files.
        out: JSON; its search log is ``<out>.journal``.
        trials: in all, with those that the log has.
        workers: processes; None takes one per core.
        num_replicates: bootstrap replicates of the interval.

    Raises:
        InputError: a faulty file, or Optuna is not installed.
    """
    name, log = search.fingerprint(), log_path(out)
    inputs = _inputs_once(search, name)
    out.parent.mkdir(parents=True, exist_ok=True)
    _run_default_first(search, name, log)
    _run_missing(search, name, log, trials, workers)
    finished = {method: _finished(open_study(name, method, log)) for method in search.methods}
    uses = 1 + earlier_reports(out, [record.image_id for record in inputs.splits[HOLDOUT]])
    tuned = _compare_with_defaults(search, inputs, finished, num_replicates, uses)
    count_report(open_study(name, search.methods[0], log), tuned.images)
    write_csv(out.with_suffix(".trials.csv"), tuned.trials)
    save(out, search, tuned)
    return tuned


#: A method, the number of the first trial, and how many.
_Job = tuple[str, int, int]


def _run_missing(search: Search, name: str, log: Path, trials: int, workers: int | None) -> None:
    """Run the trials that the log does not have yet, in processes where there are enough."""
    jobs = _missing(search, name, log, trials)
    missing = sum(count for *_, count in jobs)
    with tqdm(total=trials, initial=trials - missing, desc="tune", unit="trial", disable=None) as bar:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                bar.update(_run(search, name, log, job))
        else:
            with process_pool(workers, len(jobs)) as pool:
                for count in pool.map(partial(_run, search, name, log), jobs):
                    bar.update(count)


def _missing(search: Search, name: str, log: Path, trials: int) -> list[_Job]:
    """The trials left to run, a few per job, the methods in turns."""
    jobs: list[_Job] = []
    for method, share in search.shares(trials).items():
        done = len(_finished(open_study(name, method, log)))
        jobs += [(method, first, min(_TRIALS_PER_JOB, share - first))
                 for first in range(done, share, _TRIALS_PER_JOB)]
    return sorted(jobs, key=lambda job: job[1])


def _run_default_first(search: Search, name: str, log: Path) -> None:
    """Trial 0 is the defaults, so that no search ends below them on its own split."""
    method, point = search.methods[0], default_point(search)
    study = open_study(name, method, log)
    if not any(trial.params == point for trial in _finished(study)):
        study.enqueue_trial(point)
        _run(search, name, log, (method, 0, 1))


def _finished(study: Any) -> list[Any]:
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def _run(search: Search, name: str, log: Path, job: _Job) -> int:
    """Some trials in this process; the search log is shared with all others."""
    import optuna

    method, first, count = job
    inputs, study = _inputs_once(search, name), open_study(name, method, log)
    # With the same seed each process, and each resume, would try the same points.
    seed = np.random.SeedSequence([search.seed, search.methods.index(method), first]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=True)

    def objective(trial: Any) -> float:
        score = inputs.score(suggest(trial, search, method, tells_findings(inputs.outputs)), SEARCH)
        return 0.0 if math.isnan(score) else score

    study.optimize(objective, n_trials=count)
    return count


def _compare_with_defaults(
    search: Search, inputs: Inputs, finished: Mapping[str, list[Any]], num_replicates: int, uses: int
) -> Tuned:
    from optuna.trial import FixedTrial

    base = defaults(search)
    settings, ends = base, []
    method, best = max(((method, trial) for method, trials in finished.items() for trial in trials),
                       key=lambda item: item[1].value)
    if best.value > inputs.score(base, SEARCH):
        settings = suggest(FixedTrial(best.params), search, method, tells_findings(inputs.outputs))
        ends = at_ends(best.params, best.distributions)
    holdout = inputs.splits[HOLDOUT]
    bootstrap = image_bootstrap(holdout, num_replicates, search.seed)
    difference = Difference.of(*(mean_ap(inputs.processed(compared, HOLDOUT), holdout, bootstrap)
                                 for compared in (settings, base)))
    images = sorted(record.image_id for records in inputs.splits.values() for record in records)
    return Tuned(settings, difference.b, difference.a, difference.gain, _trial_table(finished), images, uses,
                 ends)


def _trial_table(finished: Mapping[str, list[Any]]) -> pd.DataFrame:
    """One row per trial of any method, in the order in which they began."""
    began = sorted(((trial.datetime_start, method, trial) for method, trials in finished.items()
                    for trial in trials), key=lambda item: item[:2])
    return pd.DataFrame([
        {"number": number, "value": trial.value, "duration": trial.duration, "method": method,
         **{f"params_{name}": value for name, value in sorted(trial.params.items())}}
        for number, (_, method, trial) in enumerate(began)])
