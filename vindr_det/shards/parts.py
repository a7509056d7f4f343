"""What the processes of a run predicted so far, what is missing, and both together in order."""

import hashlib
import json
import logging
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from vindr_det.exceptions import InputError
from vindr_det.files import make_folder
from vindr_det.imaging.image_run import ImageRun
from vindr_det.parallel import Failure, Runner, in_threads
from vindr_det.postprocessing.agreement import AgreementCheck
from vindr_det.prediction import Models, Outcome, predict_each
from vindr_det.shards.part import Part, Place, Reader, image_id_of_key, key_of, settings_text, text_of
from vindr_det.shards.share import Shard, batches

log = logging.getLogger(__name__)

#: Names of the locks of a run that takes all parts, and of who takes or asks for any lock, for milliseconds.
_ALL, _DOOR = "all", "door"
#: A hundred processes that start together ask one after another.
_SECONDS_AT_DOOR = 60.0
#: Images of a Dask task, at least: some seconds of work, against milliseconds for the task itself.
_IMAGES_PER_TASK = 8


def digest(path: str | Path) -> str:
    """SHA-256 of a file, or of all files in a folder; empty for an empty path."""
    if not path:
        return ""
    files = [Path(path)] if Path(path).is_file() else sorted(filter(Path.is_file, Path(path).rglob("*")))
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(2**20):
                total.update(block)
    return total.hexdigest()


class Parts:
    """What the processes of a run have predicted so far.

    Each shard has a lock; a run that takes all parts keeps its own from its first question until this context
    ends, and is refused while a shard has one.

    Args:
        folder: of the parts.
        settings: all that decides what is predicted, as plain values.

    Attributes:
        folder: likewise.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self._settings = folder, json.loads(json.dumps(settings))
        self._warned = set[Path]()
        self._held: ExitStack | None = None  # the locks of a run that takes all parts

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *error: object) -> None:
        if self._held:
            self._held.close()
        self._held = None

    def predict_shard(
        self, run: ImageRun, shard: Shard, models: Callable[[], Models], batch: int, workers: int | None
    ) -> Path:
        """Predict what is missing of a share; returns the part that it was written to.

        Args:
            run: of all images.
            shard: of this process.
            models: loads them; is called if anything is missing.
            batch: as of :func:`vindr_det.prediction.predict_each`, like ``workers``.
            workers: likewise.

        Raises:
            InputError: as there, a part has other settings, or another process is at the parts.
        """
        share, name = shard.of(run, batch), f"{shard.index + 1}-of-{shard.count}"
        with ExitStack() as stack:
            self._share(name, stack)
            keys = keys_of(share)
            done = self._done(share, keys)
            left = self._left(share, done, batch)
            part = stack.enter_context(self._part(name, keys))
            outcomes = _predicted(left, models(), batch, workers, not done) if left.readable else iter(())
            for outcome in tqdm(outcomes, desc="predict", unit="image", disable=None,
                                total=len(share.inputs), initial=len(share.inputs) - len(left.inputs)):
                part.add(outcome)
        return part.path

    def predict_on(
        self, runner: Runner, run: ImageRun, work: Callable[[ImageRun], list[Outcome]], batch: int
    ) -> None:
        """Predict what is missing elsewhere, as on Dask; what fails there is left to :meth:`outcomes`.

        Args:
            runner: of :mod:`vindr_det.dask_cluster`.
            run: of all images.
            work: predicts a part of the run, as :func:`predict_part`; importable.
            batch: images per call of a detector.
        """
        self._take_all()
        keys = keys_of(run)
        left = self._left(run, self._done(run, keys), batch)
        size = batch * -(-_IMAGES_PER_TASK // batch)
        tasks = [left.of([replace(source, path=source.path.absolute()) for source in group])
                 for group in batches(left.inputs, size)]
        with self._part("dask", keys) as part, tqdm(
                total=len(left.inputs), desc="predict", unit="image", disable=None) as bar:
            for task, outcomes in runner(work, [task for task in tasks if task.readable]):
                for outcome in [] if isinstance(outcomes, Failure) else outcomes:
                    part.add(outcome)
                bar.update(len(task.inputs))

    def outcomes(
        self, run: ImageRun, models: Models, batch: int = 1, workers: int | None = None,
        allow_inverted: bool = False,
    ) -> Iterator[Outcome]:
        """As :func:`vindr_det.prediction.predict_each`, which is asked for what no part has.

        Args:
            run: as there, like the others.
            models: likewise.
            batch: likewise.
            workers: likewise.
            allow_inverted: likewise.
        """
        merged = self._merged(run, models, batch, workers)
        checks = models.chosen_gate.needs_classifier and not allow_inverted
        return _checked(merged, AgreementCheck("the classifier")) if checks else merged

    def remove(self) -> None:
        """Remove the parts of a run whose files are written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _merged(
        self, run: ImageRun, models: Models, batch: int, workers: int | None
    ) -> Iterator[Outcome]:
        self._take_all()
        keys = keys_of(run)
        done = self._done(run, keys)
        left = self._left(run, done, batch)
        missing = {source.image_id for source in left.inputs}
        fresh = _predicted(left, models, batch, workers, not done)
        with self._part("rest", keys) as part, Reader() as read:
            for source in run.inputs:
                if source.image_id in missing:
                    outcome = next(fresh)
                    part.add(outcome)
                    yield outcome
                else:
                    yield read(done[source.image_id])
            yield from fresh  # nothing, or the error of models that failed on every image

    def _left(self, run: ImageRun, done: Mapping[str, Place], batch: int) -> ImageRun:
        """The batches that lack an outcome: a batch is predicted whole, as in a run without parts."""
        return run.of([source for group in batches(run.inputs, batch)
                       if any(source.image_id not in done for source in group) for source in group])

    def _done(self, run: ImageRun, keys: Mapping[str, str]) -> dict[str, Place]:
        """Image id -> where its outcome is, of the inputs that are as they were then."""
        parts = sorted(self.folder.glob("*.jsonl"))
        places = {key: place for part in parts for key, place in self._places(part)}
        done = {source.image_id: places[key] for source in run.inputs
                if (key := keys[source.image_id]) in places}
        others = map(image_id_of_key, places.keys() - keys.values())
        self._warn_of_changes(len((keys.keys() - done.keys()).intersection(others)), len(keys))
        return done

    def _warn_of_changes(self, again: int, count: int) -> None:
        """Say once how many of the images are there with another key."""
        if again and self.folder not in self._warned:
            self._warned.add(self.folder)
            log.warning("%s: %d of %d images are predicted again, since their files (size, time of the last "
                        "change), or what tables say of them, are not as they were", self.folder, again,
                        count)

    def _places(self, part: Path) -> Iterator[tuple[str, Place]]:
        """The inputs of a part's whole lines, each with its place.

        Raises:
            InputError: the part is of other settings.
        """
        start, damaged, of = 0, 0, zlib.crc32(settings_text(self._settings))
        if not part.is_file():
            log.warning("%s: left out, since it is no file", part)
            return
        with part.open("rb") as file:
            for line in file:
                if text := text_of(line, of):
                    key = text.partition(b"\t")[0]
                    yield key.decode(), Place(part, start + len(line) - len(text) + len(key))
                elif line.strip() and not self._is_settings(part, line):
                    damaged += 1
                start += len(line)
        if damaged and part not in self._warned:
            self._warned.add(part)
            log.warning("%s: %d lines are left out, since they are cut off or damaged, or have lost their "
                        "settings; their images are predicted again", part, damaged)

    def _is_settings(self, part: Path, line: bytes) -> bool:
        """Whether a line has the settings of this run; others are refused."""
        text = text_of(line)
        if text is None:
            return False
        made = json.loads(text)["settings"]
        for name in [*self._settings, *made]:
            if made.get(name) != self._settings.get(name):
                raise InputError(f"{part}: made with {name} {made.get(name)}, expected "
                                 f"{self._settings.get(name)}; give all shards the same options, or remove "
                                 f"{self.folder}")
        return True

    def _part(self, name: str, keys: Mapping[str, str]) -> Part:
        return Part(make_folder(self.folder) / f"{name}.jsonl", keys, self._settings)

    def _share(self, name: str, stack: ExitStack) -> None:
        """Keep others from the same shard, and from taking all parts, until the stack ends."""
        with self._door():
            self._ask(_ALL)
            self._lock(name, stack)

    def _take_all(self) -> None:
        """Keep others from the parts until this context ends."""
        if self._held:
            return
        with ExitStack() as stack, self._door():
            self._lock(_ALL, stack)
            for path in sorted(self.folder.glob("*-of-*.lock")):
                self._ask(path.stem)
            self._held = stack.pop_all()

    def _door(self) -> ExitStack:
        """Wait until nobody else asks, so that no lock that is asked for in passing refuses another."""
        with ExitStack() as stack:
            self._lock(_DOOR, stack, _SECONDS_AT_DOOR)
            return stack.pop_all()

    def _ask(self, name: str) -> None:
        """Refuse to go on while another process has a lock."""
        with ExitStack() as passing:
            self._lock(name, passing)

    def _lock(self, name: str, stack: ExitStack, seconds: float = 0) -> None:
        try:
            stack.enter_context(FileLock(make_folder(self.folder) / f"{name}.lock", timeout=seconds))
        except Timeout:
            who = {_ALL: "takes all parts", _DOOR: f"has not begun for {seconds:g} s"}.get(
                name, f"predicts {name}")
            raise InputError(f"{self.folder}: another process {who}; wait for it, or give another --out"
                             ) from None
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be locked ({error.strerror}); another run may have "
                             "removed it") from error


def keys_of(run: ImageRun) -> dict[str, str]:
    """Image id -> :func:`vindr_det.shards.part.key_of` of each input as it is now."""
    keys = in_threads(partial(key_of, run), run.inputs)
    return {source.image_id: key for source, key in zip(run.inputs, keys, strict=True)}


def predict_part(run: ImageRun, load: Callable[[], Models], batch: int) -> list[Outcome]:
    """The outcomes of a task of :meth:`Parts.predict_on`; images are read in this process.

    Args:
        run: the task's images.
        load: the models, once per process.
        batch: images per call of a detector.
    """
    return list(predict_each(run, load(), batch, 0, True))


def _checked(outcomes: Iterator[Outcome], check: AgreementCheck) -> Iterator[Outcome]:
    """The outcomes of all shards, of which each is too small to tell whether the classifier is inverted."""
    for outcome in outcomes:
        if outcome.prediction is not None:
            check.add([(outcome.prediction.output, outcome.prediction.boxes)])
        yield outcome
    check.finish()


def _predicted(
    run: ImageRun, models: Models, batch: int, workers: int | None, is_all: bool
) -> Iterator[Outcome]:
    """An outcome per input; an error of models that fail on all of them is raised only if they are all."""
    outcomes = predict_each(run, models, batch, workers, True)
    return outcomes if is_all else islice(outcomes, len(run.inputs))
