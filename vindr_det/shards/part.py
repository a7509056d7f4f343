"""The parts of a run: what its processes predicted so far, in files.

A part is a text file. A line with the run's settings begins each session; every other line holds, separated
by a tab, which input it is of (its name, size and time of the last change, before it was read) and what was
predicted. Before each stands a checksum, which is of the settings too: lines of other settings are refused;
those of a file that has changed since, that were cut off or damaged, or whose settings were, are left out.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.exceptions import InputError
from vindr_det.imaging.image_run import ImageRun
from vindr_det.imaging.inputs import Input
from vindr_det.imaging.status import Status
from vindr_det.prediction import ImagePrediction, Outcome
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import LabelSet


class Place(NamedTuple):
    """Where an outcome is written: a part, and its first byte there."""

    part: Path
    start: int


class Part:
    """A part that outcomes are added to; not those of failures, which the next run tries again.

    Args:
        path: of the part.
        keys: image id -> :func:`key_of` of the input, taken before it is read.
        settings: of the run, as plain values.

    Attributes:
        path: likewise.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: Path, keys: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        self.path, self._keys, text = path, keys, settings_text(settings)
        self._of = zlib.crc32(text)
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise self._failed(error.strerror) from error
        self._write(b"\n" + _summed(text))  # after a line that was cut off

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Add an outcome, at once.

        Raises:
            InputError: the disk is full.
        """
        if outcome.prediction is not None:
            plain = json.dumps(_plain(outcome), default=lambda number: number.item())
            self._write(_summed(f"{self._keys[outcome.status.image_id]}\t{plain}".encode(), self._of))

    def _write(self, line: bytes) -> None:
        try:
            written = self._file.write(line)
        except OSError as error:
            raise self._failed(error.strerror) from error
        if written != len(line):  # what a full disk had room for
            raise self._failed(f"{written} of {len(line)} bytes had room")

    def _failed(self, reason: str | None) -> InputError:
        return InputError(f"{self.path}: cannot be written ({reason}); --resume continues")


def settings_text(settings: Mapping[str, Any]) -> bytes:
    """A run's settings in a line; the checksums of its outcomes go on from that of this text."""
    return json.dumps({"settings": settings}).encode()


def _summed(text: bytes, before: int = 0) -> bytes:
    """A line of a text with its checksum before it."""
    return b"%08x\t%s\n" % (zlib.crc32(text, before), text)


def text_of(line: bytes, before: int = 0) -> bytes | None:
    """The text of a line of a part, or None where it is damaged or of another kind.

    Args:
        line: the whole of it.
        before: checksum of the settings' text for an outcome, 0 for settings.
    """
    text = line[9:-1]
    return text if line == _summed(text, before) else None


class Reader:
    """Reads outcomes from their places; keeps the parts open meanwhile."""

    def __init__(self) -> None:
        self._files, self._stack = dict[Path, Any](), ExitStack()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, place: Place) -> Outcome:
        """The outcome that is there."""
        if place.part not in self._files:
            self._files[place.part] = self._stack.enter_context(place.part.open("rb"))
        file = self._files[place.part]
        file.seek(place.start)
        return outcome_of(json.loads(file.readline()))


def key_of(run: ImageRun, source: Input) -> str:
    """All that tells whether an input is still the one that was predicted, as a text without tabs."""
    try:
        status = source.path.stat()
    except OSError:
        file = [-1, -1]
    else:
        file = [status.st_size, status.st_mtime_ns]
    before = run.prepared.get(source.image_id)
    return json.dumps([source.image_id, source.file, source.problem, *file, run.sizes.get(source.image_id),
                       before and [before.status, before.reason]])


def image_id_of_key(key: str) -> str:
    """The image of a text of :func:`key_of`."""
    return str(json.loads(key)[0])


def _plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome with a prediction as plain values; floats keep every digit."""
    boxes, output, gated = outcome.prediction or ImagePrediction(Predictions(), None, Predictions())
    return {"status": asdict(outcome.status), "boxes": _plain_boxes(boxes), "gated": _plain_boxes(gated),
            "output": output and {**asdict(output), "findings": None if output.findings is None else
                                  output.findings.tolist()}}


def _plain_boxes(boxes: Predictions) -> list[Any]:
    return [boxes.boxes.tolist(), boxes.scores.tolist(), boxes.labels.tolist(), asdict(boxes.label_set)]


def outcome_of(values: Mapping[str, Any]) -> Outcome:
    """The reverse of :func:`_plain`."""
    output = values["output"]
    if output is not None:
        findings = None if output["findings"] is None else np.array(output["findings"])
        output = ClassifierOutput(**{**output, "findings": findings,
                                     "label_set": _label_set(output["label_set"])})
    return Outcome(Status(**values["status"]),
                   ImagePrediction(_boxes(values["boxes"]), output, _boxes(values["gated"])))


def _boxes(values: Sequence[Any]) -> Predictions:
    boxes, scores, labels, label_set = values
    return Predictions(np.array(boxes, float).reshape(-1, 4), np.array(scores, float),
                       np.array(labels, np.int64), _label_set(label_set))


def _label_set(values: Mapping[str, Any]) -> LabelSet:
    return LabelSet(values["name"], tuple(values["findings"]), values["no_finding"])
