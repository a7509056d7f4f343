#!/usr/bin/env python
"""The whole path of prediction, and its memory: DICOM files to a gated submission.

    python benchmarks/bench_predict.py [--quick]

Five times 40 JPEG 2000 phantoms of 2,850 x 2,400 with the bundle that ships (detector, classifier, gate),
against the sequence of the competition's notebooks with the same networks: pixel_array, VOI, inversion,
min-max, resize, the detector on an image at a time, the classifier on an image at a time, class 14 appended,
a CSV at the end. Both get the same files; decoders differ, so the boxes are similar and not equal. Ours also
checks each image and writes three tables more.

Networks have a thread per core on both sides, and ours also a process per core that reads.

Memory is the peak of the process that predicts and of the one that reads, at 200 and at 2,000 images of 512
pixels, each in a run of its own; the peer is 50 MB more, which is what is allowed.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pydicom
import torch
from bench import table
from comparison import Row, alternate, of_turns
from pydicom.pixels import apply_voi_lut
from pydicom.uid import JPEG2000Lossless

from vindr_det import cli
from vindr_det.commands import predict as command
from vindr_det.files import image_id_of
from vindr_det.imaging.resize import Target
from vindr_det.phantom.dicom_file import Header, write_dicom
from vindr_det.phantom.radiograph import render

TARGET = 2.0
#: Bytes by which memory may grow.
ALLOWED = 50e6
#: Different images of a folder; the others are links to them.
_DIFFERENT = 8


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: checks the harness alone")
    print(table(list(rows(parser.parse_args(argv).quick))))


def rows(quick: bool) -> Iterator[Row]:
    """The rows of RESULTS.md."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        yield _whole_path(work, 2 if quick else 40, (570, 480) if quick else (2850, 2400), 1 if quick else 5)
        yield _memory(work, (2, 4) if quick else (200, 2000))


def make_folder(folder: Path, count: int, shape: tuple[int, int]) -> Path:
    """``count`` JPEG 2000 phantoms of ``shape``, of which a few differ."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:04d}.dicom"
        if number >= _DIFFERENT:
            os.link(folder / f"{number % _DIFFERENT:04d}.dicom", path)
            continue
        film = render(np.random.default_rng(number), *shape, labels=[3, 8] if number % 2 else [])
        header = Header(JPEG2000Lossless, 12, number % 2 == 0, True, 0.14, "050Y", True)
        write_dicom(path, str(number), film, header)
    return folder


def _whole_path(work: Path, count: int, shape: tuple[int, int], turns: int) -> Row:
    from vindr_det import load

    torch.set_num_threads(os.cpu_count() or 1)
    models = load("phantom").models
    # The turn that does not count takes few images: ``turns`` of ``count`` take minutes.
    folders = [make_folder(work / "first", min(count, 2), shape), make_folder(work / "whole", count, shape)]
    of_ours, of_peer = (iter([folders[0]] + [folders[1]] * turns) for _ in range(2))

    def ours() -> None:
        assert not command.main(["--bundle", "phantom", "--images", str(next(of_ours)), "--out",
                                 str(work / "ours.csv")])

    def peer() -> None:
        notebook(next(of_peer), models, work / "peer.csv")

    row = alternate(f"DICOM to submission, {turns} times {count} of {shape[0]} x {shape[1]}, JPEG 2000",
                    ("vindr-det predict", ours), ("a notebook's sequence", peer), turns=turns, per=count,
                    target=TARGET, note=f"same networks, {torch.get_num_threads()} threads; models loaded "
                    "within ours alone")
    ids = [list(pd.read_csv(work / name)["image_id"]) for name in ("ours.csv", "peer.csv")]
    assert ids[0] == ids[1] and len(ids[0]) == count, "not the same images"
    return row


def notebook(folder: Path, models: Any, out: Path) -> None:
    """What the competition's notebooks do, an image at a time."""
    detector, classifier = models.predictors[0], models.classifier
    network, normalize = detector.network, classifier.normalizations[0]
    size, rows_of_csv = classifier.cfg.INPUT.SIZE, []
    for path in sorted(folder.iterdir()):
        image = plain(path)
        height, width = image.shape
        shown = cv2.resize(image, Target(detector.target.size, True).shape(height, width)[::-1],
                           interpolation=cv2.INTER_AREA)
        small = torch.from_numpy(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)).float()
        with torch.no_grad():
            output = network([torch.from_numpy(np.repeat(shown[None].astype(np.float32), 3, axis=0))])[0]
            logits = classifier.models[0]((small[None, None] - 255 * normalize.mean) / (255 * normalize.std))
        p = float(logits.sigmoid()[0, 0])
        factors = np.array([width / shown.shape[1], height / shown.shape[0]] * 2)
        boxes = output["boxes"].numpy() * factors
        groups = [f"{label - detector.first_label} {score:.6g} " + " ".join(f"{side:.6g}" for side in box)
                  for label, score, box in zip(output["labels"].tolist(), output["scores"].tolist(),
                                               boxes.tolist(), strict=True)]
        rows_of_csv.append((image_id_of(path.name), " ".join([*groups, f"14 {1 - p:.6g} 0 0 1 1"])))
    pd.DataFrame(rows_of_csv, columns=["image_id", "PredictionString"]).to_csv(out, index=False)


def plain(path: Path) -> np.ndarray:
    """A DICOM file to (H, W) uint8 as the notebooks do it."""
    dataset = pydicom.dcmread(path)
    data = apply_voi_lut(dataset.pixel_array, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        data = np.amax(data) - data
    data = data - np.min(data)
    return (data / np.max(data) * 255).astype(np.uint8)


def _memory(work: Path, counts: tuple[int, int]) -> Row:
    peaks = [_peak(make_folder(work / f"of{count}", count, (512, 448)), work / f"of{count}.csv")
             for count in counts]
    grown = max(peaks[1] - peaks[0], 1e5)
    return of_turns(f"memory, {counts[1]} images over {counts[0]} ({peaks[0] / 1e6:.0f} MB)",
                    ("vindr-det predict", [grown / 1e6]), ("50 MB allowed", [ALLOWED / 1e6]), unit="MB",
                    target=1.0, note="growth of the peak")


def _peak(folder: Path, out: Path) -> float:
    """Largest resident memory of a process that predicts a folder and of one that it began, bytes."""
    code = ("import sys, resource; from vindr_det.commands import predict\n"
            "if __name__ == '__main__':\n"
            "    predict.main(sys.argv[1:])\n"
            "    whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN\n"
            "    print(sum(resource.getrusage(who).ru_maxrss for who in whose))")
    arguments = ["--bundle", "phantom", "--images", str(folder), "--out", str(out), "--workers", "1"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.PIPE,
                          text=True)
    return 1024.0 * int(done.stdout.split()[-1])


if __name__ == "__main__":
    cli.run(main)
