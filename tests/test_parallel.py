import cv2
import numpy as np

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
