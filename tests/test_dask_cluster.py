import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT
from crashing import crash_on_b, sleep_a_little

from vindr_det.dask_cluster import dask_runner
from vindr_det.exceptions import InputError
from vindr_det.imaging.prepare import prepare_folder
from vindr_det.imaging.resize import Target
from vindr_det.parallel import Failure

pytest.importorskip("distributed")
LETTERS = list("abcdefghijkl")


@contextmanager
def cluster(folder, nanny="--no-nanny", workers=2):
    """A scheduler and workers as on other machines, which stand in another folder than this process."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
                                "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}  # each starts a worker
    scheduler, worker = ([sys.executable, "-m", f"distributed.cli.dask_{kind}"]
                         for kind in ("scheduler", "worker"))
    address, processes = folder / "scheduler.json", []

    def start(*command):
        processes.append(subprocess.Popen([*map(str, command), "--no-dashboard"], cwd=folder, env=environment,
                                          stderr=subprocess.DEVNULL))
        return processes[-1]

    try:
        start(*scheduler, "--host", "127.0.0.1", "--port", "0", "--scheduler-file", address)
        begun = [start(*worker, "--scheduler-file", address, "--nthreads", 1, nanny) for _ in range(workers)]
        yield wait_for(address, workers), begun
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def wait_for(address, workers):
    from distributed import Client

    for _ in range(100):
        if address.exists():
            break
        time.sleep(0.1)
    with Client(scheduler_file=str(address), timeout=20) as client:
        client.wait_for_workers(workers, timeout=30)
        return client.scheduler.address


def test_relative_paths_mean_the_same_to_workers_in_another_folder(phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").symlink_to(phantoms / "raw")
    (tmp_path / "there").mkdir()
    prepare_folder("raw/test", "here", Target(64, True), 1)
    with cluster(tmp_path / "there") as (address, _):
        prepare_folder("raw/test", "on_dask", Target(64, True), runner=dask_runner(address))
    for path in Path("here").iterdir():
        assert (Path("on_dask") / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_share_of_a_worker_that_dies_or_hangs_is_done_again(tmp_path, number):
    with cluster(tmp_path) as (address, workers), dask_runner(address, seconds=2) as run:
        results = {}
        for item, result in run(sleep_a_little, LETTERS):
            results[item] = result
            if len(results) == 3:
                workers[0].send_signal(number)
    assert results == {letter: letter.upper() for letter in LETTERS}


def test_an_item_that_kills_its_workers_fails_alone(tmp_path):
    with cluster(tmp_path, "--nanny") as (address, _), dask_runner(address) as run:
        result = dict(run(crash_on_b, list("abcdef")))
    assert result.pop("b") == Failure("its decoder crashed or did not end")
    assert result == {name: name.upper() for name in "acdef"}


def test_a_worker_that_writes_elsewhere_ends_the_run(phantoms, tmp_path):
    """As on a machine that does not share the folder: every row would say ok, and no picture be there."""
    @contextmanager
    def elsewhere():
        yield lambda work, items: ((item, {"image_id": item.image_id, "status": "ok"}) for item in items)

    with pytest.raises(InputError, match="out: has no .*png, which a worker wrote"):
        prepare_folder(phantoms / "raw/test", tmp_path / "out", Target(64, True), runner=elsewhere())
