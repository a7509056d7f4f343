"""Outcomes to files while they come: the same bytes as of all at once, and nothing half-written."""

import errno
import gzip
import os
import shutil
import tempfile
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from vindr_det import prediction_files
from vindr_det import spool as spool_module
from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.exceptions import InputError
from vindr_det.files import read_text
from vindr_det.imaging.status import FAILED, Status
from vindr_det.prediction import ImagePrediction, Outcome
from vindr_det.spool import Spool, write_together
from vindr_det.structures.detections import Predictions, no_finding
from vindr_det.structures.label_sets import NIH, VINBIGDATA
from vindr_det.submission import submission_text
from vindr_det.submission.outputs import output_paths, write_results


def outcome_of(name: str, boxes: int, label_set=VINBIGDATA, reach: float = 90.0) -> Outcome:
    rng = np.random.default_rng(len(name) + boxes)
    corners = np.sort(rng.uniform(0, reach, (boxes, 2, 2)), axis=1).reshape(-1, 4)
    gated = Predictions(corners, rng.random(boxes), rng.integers(0, 14, boxes), label_set)
    gated = gated + no_finding(0.25, label_set) if boxes != 1 else gated
    output = ClassifierOutput(0.5, None, label_set, {"p_abnormal": 0.5})
    return Outcome(Status(name, f"{name}.png", height=100, width=100), ImagePrediction(gated, output, gated))


def failed(name: str) -> Outcome:
    return Outcome(Status(name, f"{name}.png", FAILED, "cut, and \"no\" image"))


def bytes_of(out) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in output_paths(out)}


def at_once(out, outcomes, strict: bool) -> dict[str, bytes | None]:
    """The files of all outcomes in memory."""
    read = {status.image_id: (status, prediction) for status, prediction in outcomes if prediction}
    predictions = {image_id: prediction.gated for image_id, (_, prediction) in read.items()}
    sizes = pd.DataFrame({"height": 100, "width": 100}, index=list(read))
    statuses = [outcome.status for outcome in outcomes]
    unread = {status.image_id: status.reason for status in statuses if status.status == FAILED}
    withheld = not predictions or (strict and unread)
    text = None if withheld else submission_text(out, predictions, [status.image_id for status in statuses],
                                                 sizes, unread)
    write_results(out, predictions, statuses, text,
                  {image_id: prediction.output.named for image_id, (_, prediction) in read.items()})
    return bytes_of(out)


RUNS = {
    "none": [],
    "all failed": [failed("a"), failed("b")],
    "the first failed": [failed("a"), outcome_of("b", 3), outcome_of("c", 0), failed("d"),
                         outcome_of("e", 1)],
    "no box": [outcome_of("a", 0), outcome_of("b", 0), outcome_of("c", 0)],
    "many": [outcome_of(f"i{number}", number % 5) for number in range(40)],
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz", "s.json"])
@pytest.mark.parametrize("run", RUNS)
def test_files_are_those_of_all_at_once(tmp_path, monkeypatch, run, name, strict):
    expected = at_once(tmp_path / name, RUNS[run], strict)
    for size in (1, 2, 64):
        monkeypatch.setattr(prediction_files, "_AT_ONCE", size)
        written = prediction_files.write(tmp_path / name, iter(RUNS[run]), VINBIGDATA, strict, ["e"], 2)
        assert bytes_of(tmp_path / name) == expected, size
        assert written.statuses == [outcome.status for outcome in RUNS[run]]
        assert written.first == [outcome for outcome in RUNS[run] if outcome.prediction][:2]
        assert written.in_file_pixels == (run == "the first failed")
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            name for name, data in expected.items() if data is not None)


def test_tables_of_other_label_sets_and_their_box_counts(tmp_path, monkeypatch):
    outcomes = [failed("a"), *(outcome_of(f"n{number}", number, NIH) for number in range(4))]
    expected = at_once(tmp_path / "s.csv", outcomes, False)
    monkeypatch.setattr(prediction_files, "_AT_ONCE", 2)
    assert prediction_files.write(tmp_path / "s.csv", outcomes, NIH).boxes == 6
    assert bytes_of(tmp_path / "s.csv") == expected


@pytest.mark.parametrize(("more", "message"), [
    ([Outcome(Status("z", "z.png"))], "image z has no prediction"),  # neither read nor failed: not normal
    ([outcome_of("z", 3, reach=400)], "leaves image z of width 100"),
    ([outcome_of(f"z{number}", 3, reach=20) for number in range(60)], "boxes look unscaled"),
])
def test_a_run_that_ends_early_leaves_the_files_of_the_one_before(tmp_path, monkeypatch, more, message):
    before = at_once(tmp_path / "s.csv", RUNS["no box"], False)
    monkeypatch.setattr(prediction_files, "_AT_ONCE", 2)
    with pytest.raises(InputError, match=message):
        prediction_files.write(tmp_path / "s.csv", [*RUNS["no box"], *more], VINBIGDATA)
    assert bytes_of(tmp_path / "s.csv") == before
    assert len(list(tmp_path.iterdir())) == 4


def test_a_packed_submission_unpacks_to_the_plain_one(tmp_path):
    for name in ("s.csv", "s.csv.gz"):
        prediction_files.write(tmp_path / name, RUNS["many"], VINBIGDATA)
    assert gzip.decompress((tmp_path / "s.csv.gz").read_bytes()) == (tmp_path / "s.csv").read_bytes()


def without_name(folder):
    """A file that no system names: tempfile asks for such ones, or removes its name."""
    return tempfile.TemporaryFile(dir=folder)


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz"])
@pytest.mark.parametrize("can_name", [True, False])
def test_a_file_that_has_grown_is_not_copied_if_it_can_get_a_name(tmp_path, monkeypatch, name, can_name):
    """Else its copy takes the place of what it has, so that only one file is there twice at a time."""
    if not can_name:
        monkeypatch.setattr(spool_module, "_nameless_file", without_name)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("a system without nameless files")
    paths = [tmp_path / name, tmp_path / "t.csv"]
    spools = [Spool(path) for path in paths]
    for spool in spools:
        for number in range(3):
            spool.add(f"{number}" * 1000 + "\n")
    assert not list(tmp_path.iterdir())
    write_together(dict(zip(paths, spools, strict=True)))
    for path, spool in zip(paths, spools, strict=True):
        assert read_text(path) == "".join(f"{number}" * 1000 + "\n" for number in range(3))
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
        status = os.fstat(spool._file.fileno())
        assert (status.st_ino == path.stat().st_ino) if can_name else status.st_size == 0
        spool.close()
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_disk_that_is_full_at_the_end_leaves_the_files_of_before(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_nameless_file", without_name)
    monkeypatch.setattr(shutil, "copyfileobj", full)
    (tmp_path / "s.csv").write_text("before")
    with closing(Spool(tmp_path / "s.csv")) as spool, closing(Spool(tmp_path / "t.csv")) as other:
        spool.add("after")
        with pytest.raises(InputError, match=r"csv: cannot be written \(No space left"):
            write_together({tmp_path / "t.csv": other, tmp_path / "s.csv": spool})
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]
    assert (tmp_path / "s.csv").read_text() == "before"


def full(*args):
    raise OSError(errno.ENOSPC, "No space left on device")
