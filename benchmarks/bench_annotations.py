#!/usr/bin/env python
"""Memory of the annotations in a data loader of four workers: ours against a list of dataset dicts.

    python benchmarks/bench_annotations.py [--quick]

15,000 images with 0 to 6 boxes. Each way runs in new processes, of which the anonymous memory is summed
(Pss_Anon: a page that n processes share counts 1/n in each), after every worker has touched every item; from
that the same sum without any image is taken. "One copy" is what the list takes in a single process. Needs
Linux.
"""

import gc
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparison import Row, of_turns
from torch.utils.data import DataLoader, Dataset

from vindr_det import cli
from vindr_det.detection.samples import SampleReader
from vindr_det.detection.torchvision.data import RecordDataset
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record
from vindr_det.training.loading import begin_worker

_WORKERS = 4
#: Of the annotations, over all processes.
_MOST_COPIES = 1.2


def rows(quick: bool) -> Iterable[Row]:
    """Megabytes in all processes, beside one copy and beside a plain list."""
    count, turns = (2000, 1) if quick else (15000, 3)
    ours, plain, copy = ([growth(way, count, workers) for _ in range(turns)] for way, workers in (
        (shared_items, _WORKERS), (plain_items, _WORKERS), (plain_items, 0)))
    step = f"annotations of {count:,} images, {_WORKERS} workers"
    yield of_turns(step, ("RecordDataset", ours), ("one copy in one process", copy), unit="MB",
                   target=round(1 / _MOST_COPIES, 2))
    yield of_turns(step, ("RecordDataset", ours), ("list of dataset dicts", plain), unit="MB")


def growth(make: Callable[[int], Any], count: int, workers: int) -> float:
    """Megabytes that the annotations of ``count`` images add, each measured in a process of its own."""
    context = multiprocessing.get_context("fork")
    queue, sums = context.SimpleQueue(), []
    for images in (0, count):
        process = context.Process(target=measure, args=(make, images, workers, queue))
        process.start()
        sums.append(queue.get())
        process.join()
    return (sums[1] - sums[0]) / 1e6


def measure(make: Callable[[int], Any], count: int, workers: int, queue: Any) -> None:
    warnings.simplefilter("ignore")  # of more workers than cores
    items = make(count)
    gc.collect()
    options = {"persistent_workers": True, "worker_init_fn": begin_worker} if workers else {}
    # Each worker gets every item: a batch is all of them.
    loader: DataLoader = DataLoader(Touched(items), 1, sampler=range(max(workers, 1)), num_workers=workers,
                                    **options)
    batches = iter(loader)
    for _ in range(max(workers, 1)):
        next(batches)
    workers_too = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    queue.put(sum(map(anonymous_bytes, workers_too)))
    del batches, loader


class Touched(Dataset):
    """Every item is the number of boxes of all items, which takes all of them."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items

    def __getitem__(self, _: int) -> torch.Tensor:
        return torch.tensor(sum(boxes_of(item) for item in self.items))


def boxes_of(item: Any) -> int:
    if isinstance(item, dict):
        return sum(len(annotation["bbox"]) > 0 for annotation in item["annotations"])
    return len(item.boxes)


def anonymous_bytes(process: int | None) -> int:
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{process}/smaps_rollup: has no Pss_Anon")


def records(count: int) -> Iterator[Record]:
    rng = np.random.default_rng(0)
    for number in range(count):
        boxes = rng.uniform(0, 1000, (rng.integers(0, 7), 4))
        boxes[:, 2:] += boxes[:, :2] + 1
        truth = Predictions(boxes, np.ones(len(boxes)), rng.integers(0, 14, len(boxes)))
        yield Record(f"{number:032d}", f"{number:032d}.png", 2800, 2400, truth)


def shared_items(count: int) -> Any:
    """As both engines' data sets keep them; the records they are made of are freed."""
    items = [(record, Path("datasets/vindr/train")) for record in records(count)]
    return RecordDataset(items, SampleReader(0, True)).items


def plain_items(count: int) -> list[dict[str, Any]]:
    """Detectron2's dataset dicts, as users keep them in a data set of their own."""
    return [{"file_name": f"datasets/vindr/train/{record.file_name}", "image_id": record.image_id,
             "height": record.height, "width": record.width,
             "annotations": [{"bbox": box, "bbox_mode": 0, "category_id": label, "iscrowd": 0}
                             for box, label in zip(record.truth.boxes.tolist(), record.truth.labels.tolist(),
                                                   strict=True)]}
            for record in records(count)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: checks the harness alone")
    args = parser.parse_args(argv)
    from bench import table

    print(table(list(rows(args.quick))))


if __name__ == "__main__":
    cli.run(main)
