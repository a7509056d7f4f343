import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from conftest import ROOT
from filelock import FileLock
from test_dask_cluster import cluster

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.exceptions import InputError
from vindr_det.imaging.image_run import find
from vindr_det.imaging.status import Status
from vindr_det.postprocessing.gate import Append
from vindr_det.prediction import FolderPredictions, ImagePrediction, Models, Outcome, predict_each
from vindr_det.shards import parts as parts_module
from vindr_det.shards.part import Part
from vindr_det.shards.parts import Parts, keys_of
from vindr_det.shards.share import Shard, shard_of
from vindr_det.structures.detections import Predictions

FILES = ("s.csv", "s.predictions.csv", "s.predictions.json", "s.status.csv")


class Brightness:
    """A detector whose box and score depend on every pixel."""

    label_set = Predictions().label_set

    def __init__(self):
        self.seen = []

    def __call__(self, images):
        self.seen.append(len(images))
        return [Predictions([[0, 0, 1 + image.std(), 1 + image.mean() / 7]], [image.mean() / 300], [3])
                for image in images]


@pytest.fixture
def images(phantoms, tmp_path):
    """Seven images, two of which cannot be read."""
    folder = tmp_path / "images"
    shutil.copytree(phantoms / "data/test", folder, ignore=shutil.ignore_patterns("*.csv", "*.json"))
    first = min(folder.iterdir())
    (folder / "0.png").write_bytes(first.read_bytes()[:500])
    (folder / "a.tif").write_bytes(b"II*")
    return folder


def models():
    return Models([Brightness()])


def same(a, b):
    assert a.statuses == b.statuses and a.probabilities == b.probabilities
    assert list(a.predictions) == list(b.predictions)
    for key, boxes in a.predictions.items():
        assert boxes.boxes.tobytes() == b.predictions[key].boxes.tobytes()
        assert boxes.scores.tobytes() == b.predictions[key].scores.tobytes()


@pytest.mark.parametrize("text, environment, expected", [
    ("1/1", {}, Shard(0, 1)), ("3/4", {}, Shard(2, 4)),
    ("torchrun", {"RANK": "2", "WORLD_SIZE": "4"}, Shard(2, 4)),
    ("0/4", {}, "--shard 0/4: expected such as 1/4 to 4/4"), ("5/4", {}, "--shard 5/4"),
    ("two", {}, "--shard two: expected such as"), ("torchrun", {}, "RANK and WORLD_SIZE are not set"),
    ("torchrun", {"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE 2, expected a RANK below"),
    ("torchrun", {"RANK": "0", "WORLD_SIZE": "0"}, "RANK is 0 and WORLD_SIZE 0"),
])
def test_which_share(text, environment, expected):
    if isinstance(expected, Shard):
        assert shard_of(text, environment) == expected
    else:
        with pytest.raises(InputError, match=expected):
            shard_of(text, environment)


@pytest.mark.parametrize("count, batch", [(1, 1), (2, 1), (3, 2), (20, 3)])
def test_every_image_is_in_one_share_and_batches_stay_together(images, count, batch):
    run = find(images)
    shares = [Shard(index, count).of(run, batch).inputs for index in range(count)]
    assert sorted(source.image_id for share in shares for source in share) == sorted(
        source.image_id for source in run.inputs)
    whole = [run.inputs[at:at + batch] for at in range(0, len(run.inputs), batch)]
    assert all(share[at:at + batch] in whole for share in shares for at in range(0, len(share), batch))


@pytest.mark.parametrize("lost", [[], [1], [0, 1, 2]])
@pytest.mark.parametrize("batch", [1, 2])
def test_shards_and_resume_are_a_whole_run(images, tmp_path, batch, lost):
    run, settings = find(images), {"weights": ["a"]}
    whole = FolderPredictions.of(predict_each(run, models(), batch, 0), run)
    for index in {0, 1, 2}.difference(lost):
        Parts(tmp_path / "p", settings).predict_shard(run, Shard(index, 3), models, batch, 0)
    left = Brightness()
    merged = Parts(tmp_path / "p", settings).outcomes(run, Models([left]), batch, 0)
    same(whole, FolderPredictions.of(merged, run))
    assert not left.seen if not lost and batch == 1 else sum(left.seen) < 7


def test_what_is_done_is_not_done_again_unless_the_file_changed(images, tmp_path):
    run, parts = find(images), Parts(tmp_path / "p", {})
    detector = Brightness()
    for expected in (6, 0):
        parts.predict_shard(run, Shard(0, 1), lambda: Models([detector]), 1, 0)
        assert len(detector.seen) == expected
        detector.seen.clear()
    changed = max(images.glob("*.png"))
    os.utime(changed, ns=(1, 1))
    parts.predict_shard(run, Shard(0, 1), lambda: Models([detector]), 1, 0)
    assert len(detector.seen) == 1
    part = tmp_path / "p/1-of-1.jsonl"
    part.write_bytes(part.read_bytes()[:-40])  # killed while it wrote
    assert len(parts._done(run, keys_of(run))) == 5
    parts.predict_shard(run, Shard(0, 1), lambda: Models([detector]), 1, 0)
    assert len(parts._done(run, keys_of(run))) == 6


@pytest.mark.parametrize("change, count", [
    (lambda images: None, 0), (lambda images: (images / "new.png").write_bytes(max(
        images.glob("*.png")).read_bytes()), 0),
    (lambda images: [os.utime(path, ns=(1, 1)) for path in sorted(images.iterdir())[-3:]], 3),
    (lambda images: [os.utime(path, ns=(1, 1)) for path in images.iterdir()], 6),
])
def test_how_many_images_are_done_again_is_said_once(images, tmp_path, caplog, change, count):
    predicted(tmp_path / "p", find(images))
    change(images)
    run, parts = find(images), Parts(tmp_path / "p", {})
    parts._done(run, keys_of(run))
    list(parts.outcomes(run, models(), 1, 0))
    said = [message for message in caplog.messages if "predicted again" in message]
    start = f"{tmp_path / 'p'}: {count} of {len(run.inputs)} images are predicted again"
    assert [message[:len(start)] for message in said] == [start] * bool(count)


def test_an_inverted_classifier_is_seen_over_all_shards(tmp_path, phantoms):
    """No shard has enough images to tell."""
    run = find(phantoms / "data/train")
    models = Models([Brightness()], lambda image: ClassifierOutput(1 - image.mean() / 300), gate=Append())
    parts = Parts(tmp_path / "p", {})
    for index in range(8):
        parts.predict_shard(run, Shard(index, 8), lambda: models, 1, 0)
    with pytest.raises(InputError, match="its labels are inverted"):
        list(parts.outcomes(run, models, 1, 0))
    assert len(list(parts.outcomes(run, models, 1, 0, allow_inverted=True))) == len(run.inputs)


def test_parts_of_other_settings_are_refused(images, tmp_path):
    run = find(images)
    Parts(tmp_path / "p", {"half": False}).predict_shard(run, Shard(0, 2), models, 1, 0)
    with pytest.raises(InputError, match="1-of-2.jsonl: made with half False, expected True; give"):
        list(Parts(tmp_path / "p", {"half": True}).outcomes(run, models()))


def predicted(folder, run, settings=None, detector=None):
    """All outcomes by one shard; the detector has seen what no part had."""
    detector = detector or Brightness()
    Parts(folder, settings or {}).predict_shard(run, Shard(0, 1), lambda: Models([detector]), 1, 0)
    return len(detector.seen)


def test_a_file_that_is_replaced_while_it_is_predicted_is_predicted_again(images, tmp_path):
    class Replacing(Brightness):
        def __call__(self, images_of_batch):
            os.utime(changed, ns=(len(self.seen), 1))
            return super().__call__(images_of_batch)

    run, changed = find(images), max(images.glob("*.png"))
    assert predicted(tmp_path / "p", run, detector=Replacing()) == 6
    assert predicted(tmp_path / "p", run) == 1


def damages(line):
    key, tab, _ = line.rpartition(b"\t")
    return {"zeros": line[:-60] + bytes(20) + line[-40:], "cut off": line[:-30] + b"\n",
            "another form": key + tab + b'{"boxes": 3}\n', "no text": b"\xff\xfe\n",
            "another digit": line.replace(b"0.", b"1.", 1)}


@pytest.mark.parametrize("damage", ["zeros", "cut off", "another form", "no text", "another digit"])
def test_a_damaged_line_is_left_out(images, tmp_path, caplog, damage):
    run = find(images)
    predicted(tmp_path / "p", run)
    part = tmp_path / "p/1-of-1.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    lines[3] = damages(lines[3])[damage]
    part.write_bytes(b"".join(lines))
    (tmp_path / "p/x.jsonl").mkdir()
    left, whole = Brightness(), FolderPredictions.of(predict_each(run, models(), 1, 0), run)
    same(whole, FolderPredictions.of(Parts(tmp_path / "p", {}).outcomes(run, Models([left]), 1, 0), run))
    assert len(left.seen) == 1
    warnings = [message for message in caplog.messages if str(tmp_path / "p") in message]
    assert [warning.split(",")[0] for warning in warnings] == [
        f"{part}: 1 lines are left out", f"{tmp_path / 'p/x.jsonl'}: left out"]


def test_outcomes_that_lost_their_settings_are_not_taken_for_others(images, tmp_path, caplog):
    run = find(images)
    assert predicted(tmp_path / "p", run, {"half": False}) == 6
    part = tmp_path / "p/1-of-1.jsonl"
    part.write_bytes(part.read_bytes().replace(b'"half"', b'"ha\x00f"'))
    assert predicted(tmp_path / "p", run, {"half": True}) == 6
    assert "1-of-1.jsonl: 7 lines are left out" in caplog.text


def test_a_disk_that_is_full_in_the_middle_of_a_line(images, tmp_path):
    resource = pytest.importorskip("resource")
    run, (soft, hard) = find(images), resource.getrlimit(resource.RLIMIT_FSIZE)
    with Part(tmp_path / "x.jsonl", keys_of(run), {}) as part:
        resource.setrlimit(resource.RLIMIT_FSIZE, (part.path.stat().st_size + 50, hard))
        try:
            with pytest.raises(InputError, match=r"x.jsonl: cannot be written \(50 of \d+ bytes had room\)"):
                part.add(next(predict_each(run.of(run.inputs[-1:]), models(), 1, 0)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(InputError, match=r"none/x.jsonl: cannot be written \(No such file"):
        Part(tmp_path / "none/x.jsonl", {}, {})


def test_two_runs_at_the_same_parts(images, tmp_path):
    run, at_once = find(images), []

    class Other(Brightness):
        """While it predicts, others try."""

        def __call__(self, images_of_batch):
            for other in others if not at_once else ():
                with pytest.raises(InputError, match="another process") as error:
                    other()
                at_once.append(str(error.value).partition("another process ")[2])
            return super().__call__(images_of_batch)

    others = [lambda: list(Parts(tmp_path / "p", {}).outcomes(run, models(), 1, 0)),
              lambda: predicted(tmp_path / "p", run)]
    predicted(tmp_path / "p", run, detector=Other())
    at_once[:] = [text.partition(";")[0] for text in at_once]
    assert at_once == ["predicts 1-of-1"] * 2
    at_once.clear()
    os.utime(max(images.glob("*.png")), ns=(1, 1))
    with Parts(tmp_path / "p", {}) as parts:
        list(parts.outcomes(run, Models([Other()]), 1, 0))
        assert [text.partition(";")[0] for text in at_once] == ["takes all parts"] * 2
        with pytest.raises(InputError, match="takes all parts"):  # until the parts are removed
            predicted(tmp_path / "p", run)
        parts.remove()
    assert predicted(tmp_path / "p", run) == 6


@pytest.mark.parametrize("start", range(4))
def test_shards_that_start_together_do_not_refuse_each_other(tmp_path, start):
    """Each asks in passing whether another run takes all parts."""
    count, refused = 16, []
    barrier = threading.Barrier(count)

    def share(index):
        with ExitStack() as stack:
            barrier.wait(10)
            try:
                Parts(tmp_path / "p", {})._share(f"{index}-of-{count}", stack)
            except InputError as error:
                refused.append(str(error))
            barrier.wait(10)  # all of them run

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(share, range(count)))
    assert not refused
    with Parts(tmp_path / "p", {}) as parts:
        parts._take_all()


def test_a_process_that_stays_at_the_door_ends_the_others_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "_SECONDS_AT_DOOR", 0.1)
    (tmp_path / "p").mkdir()
    refusal = pytest.raises(InputError, match="another process has not begun for 0.1 s; wait")
    with FileLock(tmp_path / "p/door.lock"), refusal, ExitStack() as stack:
        Parts(tmp_path / "p", {})._share("1-of-2", stack)


def test_an_outcome_keeps_every_digit(tmp_path, images):
    run = find(images)
    source = next(source for source in run.inputs if not source.problem)
    rng = np.random.default_rng(0)
    corners = rng.random((50, 2)).astype(np.float32)
    corners = np.hstack([corners, corners + rng.random((50, 2))])
    boxes = Predictions(corners, rng.random(50), np.arange(50) % 14)
    output = ClassifierOutput(np.float32(0.1), rng.random(14), columns={"p_abnormal": 1 / 3})
    uids = {"StudyInstanceUID": "1.2"}
    status = Status(source.image_id, source.file, "flagged", "a\tb\n\u00e9", uids, 7, 9)
    outcome = Outcome(status, ImagePrediction(boxes, output, boxes[:3]))
    parts = Parts(tmp_path / "p", {})
    with parts._part("x", keys_of(run)) as part:
        part.add(outcome)
    from vindr_det.shards.part import Reader

    with Reader() as read:
        again = read(parts._done(run, keys_of(run))[source.image_id])
    assert again.status == status and again.prediction.output.named == output.named
    assert again.prediction.output.p_abnormal == output.p_abnormal
    for a, b in ((boxes, again.prediction.boxes), (boxes[:3], again.prediction.gated)):
        assert a.boxes.tobytes() == b.boxes.tobytes() and a.scores.tobytes() == b.scores.tobytes()
        assert a.labels.tolist() == b.labels.tolist() and a.label_set == b.label_set


def predict_command(images, out, *more):
    return [ROOT / "tools/predict.py", "--bundle", "phantom", "--images", images,
            "--out", out, "--device", "cpu", "--workers", "1", *more]


def wait_for_images(run, part):
    """Until the run has ended, or has written an image after the settings of its part."""
    while run.poll() is None and (not part.exists() or part.read_bytes().count(b"\n") < 3):
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_shard_is_done_again_and_the_files_are_those_of_one_process(phantoms, tmp_path, processes):
    """Three processes with a relative --out; one is killed, its share is predicted by the merge."""
    pytest.importorskip("distributed")
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((phantoms / "raw/train").iterdir())[:17]:  # three tasks of Dask
        shutil.copy(path, images)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(*more, **variables):
        return processes.start(predict_command(images, *more), tmp_path, environment | variables)

    assert start("whole/s.csv").wait() == 0
    killed = start("sharded/s.csv", "--shard", "1/2")
    wait_for_images(killed, tmp_path / "sharded/s.parts/1-of-2.jsonl")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert start("sharded/s.csv", "--shard", "torchrun", RANK="1", WORLD_SIZE="2").wait() == 0
    assert not (tmp_path / "sharded/s.csv").exists()
    assert start("sharded/s.csv", "--resume").wait() == 0
    (tmp_path / "there").mkdir()
    with cluster(tmp_path / "there") as (address, workers):
        on_dask = start("dask/s.csv", "--dask", address)
        wait_for_images(on_dask, tmp_path / "dask/s.parts/dask.jsonl")
        workers[0].send_signal(signal.SIGKILL)
        assert on_dask.wait() == 0, on_dask.errors.read_text()
    for folder in ("sharded", "dask"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == sorted(FILES)
        for name in FILES:
            assert (tmp_path / folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_refusals(main_of, images, tmp_path):
    command = ["--bundle", "phantom", "--images", images, "--out", tmp_path / "s.csv"]
    for more, message in ((["--shard", "3/2"], "--shard 3/2"), (["--dask", "127.0.0.1:1"], "no scheduler"),
                          (["--shard", "1/2", "--resume"], "expected one of the two")):
        with pytest.raises(InputError, match=message):
            main_of("predict.py", *command, *more)
    assert not list(tmp_path.glob("s.*csv"))
