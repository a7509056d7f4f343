"""Lists that processes share, and the loaders' options."""

import gc
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from vindr_det.training.loading import SharedList, keep_shared, loader_options


@pytest.mark.parametrize("items", [
    [], [None], [{"a": [1]}, ("b", 2.5), "c" * 70000, b""], list(range(1000)),
])
def test_a_shared_list_is_the_list(items):
    shared = SharedList(iter(items))
    assert len(shared) == len(items) and list(shared) == items
    assert shared[:2] == items[:2] and shared[::-3] == items[::-3]
    assert list(pickle.loads(pickle.dumps(shared))) == items
    for row in (len(items), -len(items) - 1):
        with pytest.raises(IndexError):
            shared[row]
    if items:
        assert shared[-1] == items[-1]


def test_items_are_the_callers_own():
    shared = SharedList([{"boxes": [1]}])
    shared[0]["boxes"].append(2)
    assert shared[0] == {"boxes": [1]}


def test_options(monkeypatch):
    """Pinned memory for a GPU alone."""
    assert loader_options("cuda", 0, 2)["pin_memory"] == torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loader_options("cuda:1", 0, 2)["pin_memory"] and not loader_options("cpu", 0, 2)["pin_memory"]
    loader = DataLoader(SharedList(range(10)), 4, **loader_options("cpu", 1, 3))
    assert loader.prefetch_factor == 3 and loader.persistent_workers
    assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert DataLoader(SharedList([]), 4, sampler=[], **loader_options("cpu", 0, 3)).num_workers == 0


def test_a_worker_leaves_the_parents_objects_alone():
    before = gc.get_freeze_count()
    try:
        keep_shared(0)
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
