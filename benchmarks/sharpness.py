"""How sharp a JPEG 2000 image is that was decoded reduced, against the same image decoded whole.

    python benchmarks/sharpness.py [--dicoms DIR] [--headers train_dicom_headers.csv.gz]

For each size that images are prepared at: the share of originals decoded at 1, 1/2, 1/4 and 1/8 of their
resolution, the ratio of the Laplacian's standard deviation (ours over that of the whole decode and area
average) and the mean difference in grays. Originals are those of the header table (JPEG 2000 only; without
--headers every longest side from 1,000 to 3,400), of which a few quantiles represent all: a file is resized
to the size that shrinks it as the original would be shrunk. Files are phantoms, or those of --dicoms.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
from numpy.typing import NDArray
from pydicom.uid import JPEG2000Lossless
from tabulate import tabulate

from vindr_det import cli
from vindr_det.imaging.dicom import jpeg2000, read_dicom
from vindr_det.imaging.dicom.grayscale import gray_table, value_range
from vindr_det.imaging.dicom.stream import StreamHeader
from vindr_det.imaging.resize import Target, resize_to

SIZES = (256, 512, 1024, 1280)


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--dicoms", type=Path, help="folder of JPEG 2000 DICOMs instead of phantoms")
    parser.add_argument("--headers", type=Path, help="table with the columns Rows and Columns")
    parser.add_argument("--quantiles", type=int, default=15, help="number of sizes that represent all")
    args = parser.parse_args()
    from bench_prepare import make_films

    shapes = read_shapes(args.headers) if args.headers else np.array(
        [(side, round(side * 0.85)) for side in range(1000, 3401, 10)])
    with tempfile.TemporaryDirectory() as folder:
        files = (sorted(args.dicoms.glob("*.dic*m")) if args.dicoms
                 else make_films(Path(folder) / "j2k", JPEG2000Lossless, 2, 2040, 1740))
        wholes = {path: pydicom.dcmread(path) for path in files}
        rows = [row(size, shapes, wholes, args.quantiles) for size in SIZES]
    print(f"{len(shapes)} originals, {len(files)} files")
    print(tabulate(rows, headers="keys", floatfmt=".2f"))


def read_shapes(path: Path) -> NDArray[np.int64]:
    """(N, 2) heights and widths of the JPEG 2000 files of a header table."""
    table = pd.read_csv(path)
    return table.loc[table["Transfer Syntax UID"] == JPEG2000Lossless, ["Rows", "Columns"]].to_numpy()


def row(size: int, shapes: NDArray[np.int64], wholes: dict[Path, pydicom.Dataset], count: int) -> dict:
    """The row of a size."""
    times = np.array([reduction(shape, size) for shape in shapes])
    longest = np.quantile(shapes.max(axis=1), (np.arange(count) + 0.5) / count)
    rows = np.array([compare(path, dataset, size / side) for side in longest if side > size
                      for path, dataset in wholes.items()])
    reduced = rows[rows[:, 0] > 0]
    seen = reduced if len(reduced) else rows
    return {"size": size, **{f"1/{2**t}": f"{(times == t).mean():.0%}" for t in range(4)},
            "least": seen[:, 1].min(), "median": np.median(seen[:, 1]), "most": seen[:, 1].max(),
            "mean difference": seen[:, 2].mean(), "largest": seen[:, 2].max()}


def reduction(shape: Sequence[int], size: int) -> int:
    """How often an original of this shape is halved."""
    height, width = map(int, shape)
    return jpeg2000.choose_reduction(StreamHeader(height, width, 1, 16, False, 5),
                                     Target(size, True).shape(height, width))


def compare(path: Path, dataset: pydicom.Dataset, factor: float) -> tuple[float, float, float]:
    """How often the file was halved, the ratio of sharpness, and the mean difference in grays."""
    target = Target(round(factor * max(dataset.Rows, dataset.Columns)), True)
    ours = read_dicom(path, target)
    whole = whole_path(dataset, target)
    difference = np.abs(ours.pixels.astype(int) - whole).mean()
    return ours.reduced, detail(ours.pixels) / detail(whole), difference


def whole_path(dataset: pydicom.Dataset, target: Target) -> NDArray[np.uint8]:
    """Every pixel decoded, averaged over areas, and given the grays that ours has."""
    stored = dataset.pixel_array
    height, width = stored.shape
    table, _ = gray_table(dataset, resize_to(stored, Target(256, True).shape(height, width)))
    return table[resize_to(stored, target.shape(height, width)) - value_range(dataset)[0]]


def detail(image: NDArray[np.uint8]) -> float:
    """Standard deviation of the Laplacian, without the border."""
    return float(cv2.Laplacian(image, cv2.CV_32F)[2:-2, 2:-2].std())


if __name__ == "__main__":
    main()
