import logging
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from unittest import mock

import cv2
import numpy as np
import pydicom
import pytest

from vindr_det import parallel
from vindr_det.parallel import process_pool


def test_workers_run_after_opencvs_threads_did():
    """A forked worker would wait for ever for threads that only the parent has."""
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000), np.float32), (0, 0), 5)
    with process_pool(2, 8) as pool:
        assert list(pool.map(abs, range(-8, 0), timeout=60)) == list(range(8, 0, -1))


def test_no_more_workers_than_jobs():
    with process_pool(8, 1) as pool:
        assert pool._max_workers == 1


def seconds_left(_) -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0]


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="the system has no alarms")
def test_an_item_that_hangs_is_ended_in_threads_too():
    """Dask's workers are threads of a process that has but one alarm: it is that of the first to end."""
    signal.alarm(0)  # a test runner's own
    begun, end = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        end.wait(30)
        return seconds_left(None)

    with ThreadPoolExecutor(2) as pool:
        try:
            long = pool.submit(parallel.quietly, wait, "a")
            begun.wait(30)
            time.sleep(1.2)
            first = seconds_left(None)
            assert 250 < first < 299.5
            during = pool.submit(parallel.quietly, seconds_left, "b").result()
            assert 250 < during <= first + 0.5  # of a, which began before
            assert 250 < seconds_left(None) <= first + 0.5  # b has ended, a has not
        finally:
            end.set()
        assert long.result() > 250
    assert seconds_left(None) == 0


def test_pydicom_stays_silent_where_it_is_imported_later(monkeypatch):
    logger = logging.getLogger("pydicom")
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "level", logger.level)
    parallel.silence_decoders()
    pydicom.config.debug(False)  # as at its import
    assert not logger.isEnabledFor(logging.WARNING)


def test_no_process_is_left_after_a_crash():
    """The pool's end would wait forever for one that began while another crashed."""
    pool = process_pool(1, 1)
    pool.submit(abs, -1).result()
    (process,) = pool._processes.values()
    with pytest.raises(BrokenProcessPool), parallel._none_left(pool):
        raise BrokenProcessPool
    process.join(20)
    try:
        assert not process.is_alive()
    finally:
        process.kill()
        pool.shutdown()


@pytest.mark.parametrize("run", [lambda: parallel._run_locally(1, 2, abs, [-1, -2]),
                                 lambda: parallel.in_order(abs, [-1, -2], 1, 1)])
def test_each_way_of_running_ends_what_a_crash_has_left(run, monkeypatch):
    """A pool whose process is alive when an item finds it broken, as on Python 3.11."""
    pools = []

    class Broken:
        def __init__(self, *_):
            self._processes = {0: mock.Mock()}
            pools.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            assert self._processes[0].kill.called  # else it would be waited for

        def submit(self, *_):
            future = Future()
            future.set_exception(BrokenProcessPool())
            return future

    monkeypatch.setattr(parallel, "process_pool", Broken)
    monkeypatch.setattr(parallel, "run_alone", lambda work, item, *_: work(item))
    assert list(islice(run(), 2)) == [(-1, 1), (-2, 2)] and pools
