"""A training that waits for its images says so, once."""

import pytest

from vindr_det.training.progress import LoaderWatch


@pytest.mark.parametrize(("steps", "lines"), [
    ([], 0),
    ([(10.0, 2.9)] * 3, 0),
    ([(10.0, 9.0)], 1),  # at the end
    ([(10.0, 4.0)] * 3, 1),
    ([(10.0, 9.0), (90.0, 1.0)], 0),  # the loader's start
])
def test_once_from_thirty_percent_on(steps, lines, caplog):
    watch = LoaderWatch("DATALOADER.NUM_WORKERS")
    for seconds, waited in steps:
        watch.add(seconds, waited)
    watch.tell()
    assert len(caplog.messages) == lines
    assert all("% of the time; a larger DATALOADER.NUM_WORKERS" in line for line in caplog.messages)
