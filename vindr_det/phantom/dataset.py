"""A folder of phantoms in the layout of the competition's download."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from vindr_det.exceptions import InputError
from vindr_det.parallel import process_pool
from vindr_det.phantom.dicom_file import sample_header, write_dicom
from vindr_det.phantom.radiograph import render
from vindr_det.phantom.readers import annotation_row, choose_readers, read_image
from vindr_det.structures.label_sets import FINDINGS, NO_FINDING_ID
from vindr_det.tables import write_csv

#: Share of normal images; 10,606 of 15,000 in train.csv are.
NORMAL_SHARE = 2 / 3

# Abnormal images that show each finding, of 4,394, and how many boxes of it such an image has.
_IMAGES = np.array([3067, 186, 452, 2300, 353, 386, 613, 1322, 826, 1134, 1032, 1981, 96, 1617])
_MOST_BOXES = np.array([1, 1, 2, 1, 2, 2, 2, 2, 3, 2, 2, 2, 1, 2])
# Small sets need some of everything, so that rare findings can be learned and measured.
_SMALLEST_SHARE = 0.22

TRAIN_COLUMNS = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
_TRUTH_COLUMNS = tuple(name for name in TRAIN_COLUMNS if name != "rad_id")


@dataclass(frozen=True)
class _Job:
    folder: str
    split: str
    index: int
    size: int
    seed: int
    normal: bool


def make_dataset(
    out: str | Path, num_train: int, num_test: int, size: int, seed: int,
    workers: int | None = None,
) -> None:
    """Write ``train/``, ``test/`` and the tables of the competition to ``out``.

    Args:
        out: folder to create; existing files of the same name are replaced.
        num_train: images with readers' annotations (``train.csv``).
        num_test: images whose true boxes are in ``test_annotations.csv``.
        size: longest side in pixels; the sides vary as those of real films do.
        seed: same seed, same bytes, whatever the number of workers.
        workers: processes; None takes one per core.

    Raises:
        InputError: a number is out of range or ``out`` cannot be written.
    """
    if num_train < 1 or num_test < 1:
        raise InputError(f"--num-train {num_train} --num-test {num_test}: expected at least 1 each")
    if not 128 <= size <= 4096:
        raise InputError(f"--size {size}: expected 128 to 4096 pixels")
    out = Path(out)
    jobs = [
        _Job(str(out / split), split, index, size, seed, normal)
        for split, count in (("train", num_train), ("test", num_test))
        for index, normal in enumerate(_normal_images(count, split, seed))
    ]
    done = list(_run(jobs, workers))
    _write_tables(out, [r for r in done if r["split"] == "train"],
                  [r for r in done if r["split"] == "test"])


def _normal_images(count: int, split: str, seed: int) -> list[bool]:
    """Which images are normal: exactly two thirds, in random places."""
    normal = np.arange(count) < round(count * NORMAL_SHARE)
    return _rng(seed, split, 2**31).permutation(normal).tolist()


def _rng(seed: int, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, 0 if split == "train" else 1, index])


def _run(jobs: list[_Job], workers: int | None) -> Iterator[dict[str, Any]]:
    for job in jobs:
        Path(job.folder).mkdir(parents=True, exist_ok=True)
    progress = tqdm(total=len(jobs), desc="phantoms", unit="image", disable=None)
    with process_pool(workers, len(jobs)) as pool, progress:
        for result in pool.map(_make_image, jobs, chunksize=4):
            progress.update()
            yield result


def _make_image(job: _Job) -> dict[str, Any]:
    """Draw an image, write it and let readers annotate it; runs in a worker process."""
    rng = _rng(job.seed, job.split, job.index)
    image_id = hashlib.md5(f"{job.seed}/{job.split}/{job.index}".encode()).hexdigest()
    height, width = _film_size(rng, job.size)
    labels = [] if job.normal else sample_labels(rng)
    header = sample_header(rng)
    film = render(rng, height, width, labels, header.bits)
    write_dicom(Path(job.folder) / f"{image_id}.dicom", image_id, film, header)
    rows = [
        row
        for reader in choose_readers(rng, bool(film.findings))
        for row in read_image(rng, film.findings, height, width, reader)
    ]
    truth = [annotation_row(f.label, [int(v) for v in f.box]) for f in film.findings]
    return {
        "split": job.split, "image_id": image_id, "dim0": height, "dim1": width,
        "readers": rows, "truth": truth or [annotation_row(NO_FINDING_ID, None)],
    }


def _film_size(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """Height and width: mostly portrait, a quarter square, few landscape."""
    longest = round(size * rng.uniform(0.85, 1.0))
    ratio = 1.0 if rng.random() < 0.25 else rng.uniform(0.80, 1.05)
    if ratio > 1:
        return round(longest / ratio), longest
    return longest, round(longest * ratio)


def sample_labels(rng: np.random.Generator) -> list[int]:
    """The findings of one abnormal image, large ones first so that small ones stay visible."""
    share = np.maximum(_IMAGES / 4394, _SMALLEST_SHARE)
    present = np.flatnonzero(rng.random(len(FINDINGS)) < 0.85 * share)
    if len(present) == 0:
        present = rng.choice(len(FINDINGS), 1, p=share / share.sum())
    labels = [int(i) for i in present for _ in range(rng.integers(1, _MOST_BOXES[i] + 1))]
    small = [FINDINGS.index(name) for name in ("Calcification", "Nodule/Mass", "Other lesion")]
    return sorted(labels, key=lambda label: (label in small, label))


def _write_tables(out: Path, train: list[dict], test: list[dict]) -> None:
    def table(results: list[dict], rows: str, columns: tuple[str, ...]) -> pd.DataFrame:
        full = [{"image_id": r["image_id"], **row} for r in results for row in r[rows]]
        frame = pd.DataFrame(full, columns=list(columns))
        edges = ["x_min", "y_min", "x_max", "y_max"]
        return frame.astype(dict.fromkeys(edges, "float64"))

    def meta(results: list[dict]) -> pd.DataFrame:
        return pd.DataFrame(results, columns=["image_id", "dim0", "dim1"])

    write_csv(out / "train.csv", table(train, "readers", TRAIN_COLUMNS))
    write_csv(out / "train_meta.csv", meta(train))
    write_csv(out / "test_annotations.csv", table(test, "truth", _TRUTH_COLUMNS))
    write_csv(out / "test_meta.csv", meta(test))
    sample = meta(test)[["image_id"]].sort_values("image_id")
    write_csv(out / "sample_submission.csv", sample.assign(PredictionString="14 1 0 0 1 1"))
