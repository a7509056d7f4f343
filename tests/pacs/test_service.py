"""The service as a whole: what comes is answered, a damaged image too; it ends at SIGTERM."""

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from conftest import ROOT
from pacs_files import ACCESSION, NAME, PATIENT, in_hospital, problems_of, wait_for

from vindr_det.bundle.read import open_bundle
from vindr_det.exceptions import InputError
from vindr_det.pacs import receiving
from vindr_det.pacs.answer import Algorithm
from vindr_det.pacs.predicting import Answering, answer_all
from vindr_det.pacs.queue import MOST_TRIES, Queue, key_of
from vindr_det.pacs.receiving import Watcher
from vindr_det.pacs.sending import Folder
from vindr_det.pacs.service import serve
from vindr_det.pacs.structured_report import boxes_of


@pytest.fixture(scope="module")
def answering():
    bundle = open_bundle("phantom").load("cpu")
    return Answering(bundle.models, Algorithm("phantom", bundle.digest[:16]), score=0.05)


@pytest.fixture
def watched(phantoms, tmp_path):
    """A folder with two images, a damaged one and a note."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, source in enumerate(sorted((phantoms / "raw/test").iterdir())[:3]):
        in_hospital(source, folder / f"{number}.dcm", number)
    whole = (folder / "2.dcm").read_bytes()
    (folder / "2.dcm").write_bytes(whole[:-500])
    (folder / "note.txt").write_text("no image")
    return folder


def served(state, answering, watched, out, until):
    """Serve until a condition is met, then end by SIGTERM."""
    def end():
        try:
            wait_for(until, 200)
        finally:
            signal.raise_signal(signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    queue = Queue(state)
    serve(queue, answering, [Folder(out)], [Watcher(watched, queue, 100)])
    thread.join()


def test_every_image_is_answered_once(tmp_path, answering, watched, monkeypatch, caplog):
    monkeypatch.setattr(receiving, "_SETTLED", 0.1)
    caplog.set_level("DEBUG", "vindr_det")
    state, out = tmp_path / "state", tmp_path / "out"
    served(state, answering, watched, out, lambda: len(list((state / "done").glob("*"))) == 3)
    keys = {number: key_of(pydicom.dcmread(watched / f"{number}.dcm", stop_before_pixels=True).SOPInstanceUID)
            for number in range(3)}
    files = {path.name: path for path in out.iterdir()}
    assert {name.split(".")[0] for name in files} == set(keys.values())
    assert not any(problems_of(path) for path in files.values())
    for number in (0, 1):
        assert f"{keys[number]}.sc.dcm" in files
    damaged = pydicom.dcmread(files[f"{keys[2]}.sr.dcm"])
    assert "NOT_READ" in damaged.to_json() and not boxes_of(damaged)
    assert f"{keys[2]}.sc.dcm" not in files
    left = [path for path in state.rglob("*") if path.is_file()]
    assert sorted(path.name for path in left) == sorted([".lock", *keys.values()])
    lines = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("vindr_det"))
    assert "ended" in lines
    secrets = (NAME, "Doe", PATIENT, ACCESSION, "2.25.", str(watched))
    assert not [secret for secret in secrets if secret in lines]
    before = {name: path.stat().st_mtime_ns for name, path in files.items()}
    seen = []
    served(state, answering, watched, out, lambda: seen.append(1) or len(seen) > 15)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_the_boxes_are_those_of_predict(tmp_path, answering, watched, monkeypatch):
    """The service's numbers are those of the command on the same file."""
    from vindr_det.imaging import image_run
    from vindr_det.prediction import FolderPredictions, predict_each

    monkeypatch.setattr(receiving, "_SETTLED", 0.1)
    state, out = tmp_path / "state", tmp_path / "out"
    run = image_run.find(watched / "0.dcm")
    result = FolderPredictions.of(predict_each(run, answering.models, workers=0), run)
    expected = result.predictions["0"].findings().by_score()[:5]
    score = float(expected.scores[-1]) * 0.999  # the reports' scores have six digits
    served(state, replace(answering, score=score, kinds=["sr"]), watched, out,
           lambda: len(list((state / "done").glob("*"))) == 3)
    key = key_of(pydicom.dcmread(watched / "0.dcm", stop_before_pixels=True).SOPInstanceUID)
    told = boxes_of(pydicom.dcmread(out / f"{key}.sr.dcm"))
    assert len(told) == len(expected) == 5
    for (_, _, told_score, corners), wanted, box in zip(told, expected.scores, expected.boxes, strict=True):
        assert told_score == pytest.approx(wanted, abs=1e-5)
        assert corners == pytest.approx(box, abs=0.02)


def test_an_image_at_which_the_service_ends_is_put_aside(tmp_path, answering, watched):
    queue = Queue(tmp_path / "state")
    keys = [queue.add(str(number), (watched / f"{number}.dcm").read_bytes()) for number in range(2)]
    for _ in range(MOST_TRIES):
        queue.begin(keys[0])
    never = threading.Event()
    answer_all(queue, answering, never, threading.Event())
    assert (queue.unanswered(), queue.unsent()) == ([], [keys[1]])
    assert f"ended {MOST_TRIES} times" in (tmp_path / f"state/refused/{keys[0]}.txt").read_text()
    queue.close()


def test_a_full_disk_is_not_held_against_an_image(tmp_path, answering, watched, monkeypatch):
    def full(key, objects):
        raise InputError("no space left")

    queue, never = Queue(tmp_path / "state"), threading.Event()
    key = queue.add("1.2", (watched / "0.dcm").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(queue, "keep_answer", full)
        with pytest.raises(InputError, match="no space left"):
            answer_all(queue, answering, never, threading.Event())
    assert queue.unanswered() == [key] and queue.tries(key) == 0
    answer_all(queue, answering, never, threading.Event())
    assert queue.unsent() == [key]
    queue.close()


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_killed_while_studies_come_in(tmp_path):
    """benchmarks/listener.py with few studies: each is answered once, in a real server.

    The benchmark is the same with more studies and is run by hand; `make test` leaves this out.
    """
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    if not plugin.is_file():
        pytest.skip("orthanc-dicomweb is not installed")
    run = subprocess.run([sys.executable, ROOT / "benchmarks/listener.py", "--studies", "6", "--kills", "1",
                          "--size", "192", "--stow"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "SR: 6 objects of 6 images" in run.stdout
