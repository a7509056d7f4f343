"""COCO's curves where hotcoco cannot compute: in a child that was forked from a process that has used it.

hotcoco computes on threads of its own, which a fork does not copy: a child that waits for them hangs.
"""

import contextlib
import io
import os
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from vindr_det.data.coco import to_coco
from vindr_det.structures.records import Record


def is_forked() -> bool:
    """Whether a process that this one was forked from has asked before."""
    return _first_process() != os.getpid()


@cache
def _first_process() -> int:
    """The process that asks first; its children inherit the answer."""
    return os.getpid()


def accumulate_by_pycocotools(
    results: NDArray[np.float64], records: Sequence[Record], areas: Sequence[Sequence[float]],
    thresholds: NDArray[np.float64], limits: Sequence[int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As :func:`vindr_det.metrics.coco.accumulate`, in this thread alone.

    Args:
        results: (N, 7) of :func:`vindr_det.metrics.coco.to_results`.
        records: as there, like the others; one has a box.
        areas: likewise.
        thresholds: likewise.
        limits: likewise.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, nothing = COCO(), COCO()
        truth.dataset = to_coco(records)
        nothing.dataset = {**truth.dataset, "annotations": []}
        for data in (truth, nothing):
            data.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results) if len(results) else nothing, "bbox")
        params = evaluation.params
        params.iouThrs, params.maxDets, params.areaRng = thresholds, list(limits), list(map(list, areas))
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]
