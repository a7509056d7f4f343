#!/usr/bin/env python
"""How long a report takes to write and its page to open.

    python benchmarks/report_page.py
    python benchmarks/report_page.py --images 200 --out outputs/report_page

Random boxes of three readers on 3,000 images, 100 detections on each, pictures of 1,024 pixels with noise for
the 200 cases that a page shows. Prints seconds, megabytes, the highest memory of the process, and where
Chromium and Selenium are installed the milliseconds until the page is loaded.
"""

import resource
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from vindr_det import cli
from vindr_det.report.build import write_report
from vindr_det.report.request import ReportRequest
from vindr_det.structures.label_sets import CLASS_NAMES

SIDE, SHOWN, READERS, DETECTIONS = 1024, 200, ("R1", "R2", "R3"), 100
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")


def make_run(folder: Path, count: int) -> dict[str, str]:
    """Option of a report -> its file: truth of three readers, predictions, sizes and the pictures of some."""
    rng = np.random.default_rng(0)
    ids = [f"{number:05d}" for number in range(count)]
    truth = [row for image_id in ids for row in _readers(rng, image_id)]
    columns = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    pd.DataFrame(truth, columns=columns).to_csv(folder / "truth.csv", index=False)
    pd.DataFrame({"image_id": ids, "dim0": SIDE, "dim1": SIDE}).to_csv(folder / "meta.csv", index=False)
    strings = [_prediction(rng) for _ in ids]
    pd.DataFrame({"image_id": ids, "PredictionString": strings}).to_csv(folder / "S.csv", index=False)
    (folder / "images").mkdir(exist_ok=True)
    slope = np.linspace(40, 200, SIDE)[:, None]
    for image_id in ids[:SHOWN]:
        picture = np.clip(slope + rng.normal(0, 12, (SIDE, SIDE)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{image_id}.jpg"), picture)
    names = {"predictions": "S.csv", "annotations": "truth.csv", "meta": "meta.csv", "images": "images"}
    return {name: str(folder / file) for name, file in names.items()}


def _prediction(rng: np.random.Generator) -> str:
    labels, scores = rng.integers(0, 14, DETECTIONS), rng.random(DETECTIONS) ** 3
    return " ".join(f"{label} {score:.4f} {' '.join(f'{value:.1f}' for value in box)}"
                    for label, score, box in zip(labels, scores, _boxes(rng, DETECTIONS), strict=True))


def _readers(rng: np.random.Generator, image_id: str) -> list[tuple]:
    if rng.random() < 0.5:
        return [(image_id, CLASS_NAMES[14], 14, reader, None, None, None, None) for reader in READERS]
    boxes, labels = _boxes(rng, 4), rng.integers(0, 14, 4)
    return [(image_id, CLASS_NAMES[label], label, reader,
             *np.clip(box + rng.normal(0, 8, 4), 0, SIDE).round())
            for reader in READERS for box, label in zip(boxes, labels, strict=True)]


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.uniform(0, SIDE - 300, (count, 2))
    return np.concatenate([low, low + rng.uniform(60, 250, (count, 2))], axis=1)


def load_milliseconds(page: Path) -> float | None:
    """Until the page's load event; None without Chromium or Selenium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if not chromium or not driver:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(service=webdriver.ChromeService(driver), options=options)
        browser.get(page.resolve().as_uri())
        loaded = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
        browser.quit()
    return float(loaded)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=int, default=3000, help="number of images")
    parser.add_argument("--out", default="outputs/report_page", help="folder for the files and the page")
    args = parser.parse_args(argv)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    files, page = make_run(folder, args.images), folder / "report.html"
    began, processor = time.perf_counter(), time.process_time()
    written = write_report(ReportRequest(str(page), **files))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{args.images} images with {DETECTIONS} detections each, {written.cases} shown: "
          f"{time.perf_counter() - began:.1f} s, {time.process_time() - processor:.1f} s of the processor, "
          f"{written.bytes / 1e6:.1f} MB, {memory:.0f} MB of memory")
    loaded = load_milliseconds(page)
    print("Chromium or Selenium is not installed" if loaded is None else f"opens in {loaded:.0f} ms")


if __name__ == "__main__":
    cli.run(main)
