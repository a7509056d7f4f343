"""Preparing images: ours against the plain path that notebooks take, in the same run.

    python benchmarks/bench_prepare.py [--quick]

The plain path is pydicom's pixel_array, apply_voi_lut, inversion by the maximum, min-max, cv2.resize,
cv2.imwrite. Both write PNGs of the same size, one process, one OpenCV thread. Files are phantoms of the sizes
that VinBigData's have at four quantiles, of its JPEG 2000 files (35 %) and of all (the others are not
compressed). VINDR_TEST_DATA adds the JPEG 2000 files of its vinbig/dicom. A row's note has the lowest
sharpness of a file, as benchmarks/sharpness.py measures it.
"""

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pydicom
from comparison import Row, alternate
from pydicom.pixels import apply_voi_lut
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless
from sharpness import compare

from vindr_det import cli
from vindr_det.imaging.inputs import Input
from vindr_det.imaging.prepare import prepare_input
from vindr_det.imaging.resize import Target
from vindr_det.phantom.dicom_file import Header, write_dicom
from vindr_det.phantom.radiograph import render

SIZES = (1280, 1024, 512, 256)
#: Detail that is left at least, of a whole decode's.
SHARPNESS = 0.9
#: Heights and widths at four quantiles of the longest side, by the table of headers.
_COMPRESSED = ((2444, 2122), (2540, 2051), (2880, 2304), (3000, 3000))
_ALL = ((2430, 1994), (2722, 2423), (2930, 2504), (3072, 3072))


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="one small file and one turn")
    args = parser.parse_args()
    from bench import table

    print(table(list(rows(args.quick))))


def rows(quick: bool) -> Iterable[Row]:
    """The rows of RESULTS.md."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, files in file_sets(work, quick):
            for size in SIZES[-1:] if quick else SIZES:
                yield row(name, files, size, work, quick)


def film_shapes(syntax: str) -> Sequence[tuple[int, int]]:
    """Heights and widths of VinBigData's files of a transfer syntax, or of all of them."""
    return _COMPRESSED if syntax == JPEG2000Lossless else _ALL


def file_sets(work: Path, quick: bool) -> Iterable[tuple[str, list[Path]]]:
    """Names of what is prepared, each with its files."""
    few = [(1100, 950)]
    yield "JPEG 2000, VinBigData's sizes", make_films_of(work / "j2k", JPEG2000Lossless,
                                                         few if quick else _COMPRESSED)
    yield "not compressed, VinBigData's sizes", make_films_of(work / "raw", ImplicitVRLittleEndian,
                                                              few if quick else _ALL)
    own = sorted(Path(os.environ.get("VINDR_TEST_DATA", work / "none"), "vinbig/dicom").glob("*.dicom"))
    if own and not quick:
        yield f"{len(own)} JPEG 2000 files of VinBigData, about 2000 x 2000", own


def row(name: str, paths: list[Path], size: int, out: Path, quick: bool) -> Row:
    """Ours against the plain path on some files, at one size."""
    target = Target(size, True)

    def ours() -> None:
        for path in paths:
            prepare_input(Input(path.stem, path.name, path), out, target)

    def plain() -> None:
        for path in paths:
            plain_path(path, out, size)

    shapes = []
    for work in (ours, plain):
        work()
        shapes.append([cv2.imread(str(out / f"{path.stem}.png"), 0).shape for path in paths])
    if shapes[0] != shapes[1]:
        raise RuntimeError(f"{name}, {size} px: pictures of {shapes[0]} against {shapes[1]}")
    wholes = [pydicom.dcmread(path) for path in paths]
    sharp = min(compare(path, whole, size / max(whole.Rows, whole.Columns))[1]
                for path, whole in zip(paths, wholes, strict=True))
    if sharp < SHARPNESS:
        raise RuntimeError(f"{name}, {size} px: sharpness {sharp:.2f}, expected at least {SHARPNESS}")
    return alternate(f"prepare {name}, to {size} px", ("prepare", ours), ("pydicom, resize, imwrite", plain),
                     turns=1 if quick else 5, per=len(paths), note=f"lowest sharpness {sharp:.2f}")


def make_films(folder: Path, syntax: str, count: int, height: int, width: int) -> list[Path]:
    """Phantoms as DICOM files of one transfer syntax, ``count`` of a size."""
    return make_films_of(folder, syntax, [(height, width)] * count)


def make_films_of(folder: Path, syntax: str, shapes: Sequence[tuple[int, int]]) -> list[Path]:
    """A phantom of each height and width as a DICOM file."""
    folder.mkdir()
    for number, (height, width) in enumerate(shapes):
        film = render(np.random.default_rng(number), height, width, [3, 8] if number % 2 else [])
        header = Header(syntax, 12, number % 2 == 0, True, 0.14, "050Y", True)
        write_dicom(folder / f"{number}.dicom", str(number), film, header)
    return sorted(folder.iterdir())


def plain_path(path: Path, out: Path, size: int) -> None:
    """What the copied notebooks do."""
    dataset = pydicom.dcmread(path)
    data = apply_voi_lut(dataset.pixel_array, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        data = np.amax(data) - data
    data = data - np.min(data)
    data = (data / np.max(data) * 255).astype(np.uint8)
    height, width = Target(size, True).shape(*data.shape)
    cv2.imwrite(str(out / f"{path.stem}.png"),
                cv2.resize(data, (width, height), interpolation=cv2.INTER_AREA))


if __name__ == "__main__":
    main()
