"""Preparing images: ours against the plain path that notebooks take, in the same run.

    python benchmarks/bench_prepare.py [--dicoms DIR] [--quick]

The plain path is pydicom's pixel_array, apply_voi_lut, inversion by the image's maximum, min-max to
8 bits, cv2.resize, cv2.imwrite. Both write PNGs of the same size, one process, one OpenCV thread,
taking turns on each file; a figure is the median over the repeats. --dicoms adds files of your own
(JPEG 2000). At the end it compares two processes with one, and measures the memory of preparing 200
images of 3,000 x 2,500 with two. On another machine only the ratios are comparable.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_voi_lut
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless
from tabulate import tabulate

from vindr_det import cli
from vindr_det.imaging.dicom import jpeg2000
from vindr_det.imaging.dicom.stream import read_header
from vindr_det.imaging.inputs import Input
from vindr_det.imaging.prepare import prepare_folder, prepare_input
from vindr_det.imaging.resize import Target
from vindr_det.phantom.dicom_file import Header, write_dicom
from vindr_det.phantom.radiograph import render

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--dicoms", type=Path, help="folder of JPEG 2000 DICOMs to measure too")
    parser.add_argument("--quick", action="store_true", help="leave out memory and two processes")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        compressed = make_films(work / "j2k", JPEG2000Lossless, 4, 2850, 2400)
        plain = make_films(work / "raw", ImplicitVRLittleEndian, 4, 2850, 2400)
        rows = [measure("JPEG 2000, 2850 x 2400", compressed, size, work) for size in (1280, 1024, 512)]
        rows += [measure("uncompressed, 2850 x 2400", plain, size, work) for size in (1280, 1024, 512)]
        if args.dicoms:
            own = sorted(args.dicoms.glob("*.dic*m"))
            rows += [measure(f"{len(own)} files of --dicoms", own, size, work) for size in (1024, 512, 256)]
        print(tabulate(rows, headers="keys", floatfmt=".2f"))
        if not args.quick:
            print(f"two processes / one: {speed_up(compressed, work):.2f} times")
            print(f"200 images of 3000 x 2500, two processes: {peak_memory(work):.0f} MB in all")


def make_films(folder: Path, syntax: str, count: int, height: int, width: int) -> list[Path]:
    """Phantoms as DICOM files of one transfer syntax."""
    folder.mkdir()
    for number in range(count):
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


def measure(name: str, paths: list[Path], size: int, out: Path, rounds: int = 5) -> dict:
    """Milliseconds an image and ratios."""
    target = Target(size, True)
    jobs = {"plain": lambda p: plain_path(p, out, size),
            "ours": lambda p: prepare_input(Input(p.stem, p.name, p), out, target)}
    streams = dict.fromkeys(paths)
    if pydicom.dcmread(paths[0], stop_before_pixels=True).file_meta.TransferSyntaxUID.is_encapsulated:
        streams = {path: bare_decoder(path, target) for path in paths}
        jobs["bare decode"] = lambda p: streams[p]()
    times: dict[str, list[float]] = {job: [] for job in jobs}
    for job in jobs.values():
        job(paths[0])
    for _ in range(rounds):
        for job, function in jobs.items():
            times[job].append(timed(function, paths) / len(paths))
    ms = {job: 1000 * float(np.median(t)) for job, t in times.items()}
    bare = ms.get("bare decode")
    return {"files": name, "size": size, **{f"{job} ms": ms.get(job) for job in
                                             ("plain", "ours", "bare decode")},
            "plain / ours": ms["plain"] / ms["ours"], "ours / bare": bare and ms["ours"] / bare}


def bare_decoder(path: Path, target: Target):
    """A function that only decodes, at the resolution that ours would choose."""
    stream = next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
    header = read_header(stream)
    times = jpeg2000.choose_reduction(header, target.shape(header.height, header.width))
    return lambda: jpeg2000.low_pass(stream, header, times)


def timed(function, paths: list[Path]) -> float:
    """Seconds for all paths."""
    began = time.perf_counter()
    for path in paths:
        function(path)
    return time.perf_counter() - began


def linked(paths: list[Path], folder: Path, count: int) -> Path:
    """The same files under ``count`` names."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03d}.dicom").hardlink_to(paths[number % len(paths)])
    return folder


def speed_up(paths: list[Path], work: Path) -> float:
    """One process's time over two's, pool start included; the best of three each."""
    images = linked(paths, work / "many", 100)
    best = {}
    for _ in range(3):
        for workers in (1, 2):
            began = time.perf_counter()
            prepare_folder(images, work / "pool", Target(1024, True), workers)
            best[workers] = min(best.get(workers, np.inf), time.perf_counter() - began)
    return best[1] / best[2]


def peak_memory(work: Path) -> float:
    """Resident megabytes of the tool and all its processes together, at the worst moment."""
    kinds = [make_films(work / f"large{i}", syntax, 2, 3000, 2500)
             for i, syntax in enumerate((JPEG2000Lossless, ImplicitVRLittleEndian))]
    images = linked([path for pair in zip(*kinds, strict=True) for path in pair], work / "large", 200)
    run = psutil.Popen([sys.executable, str(ROOT / "tools/prepare_images.py"), "--images", images,
                        "--out", work / "prepared", "--size", "1024", "--workers", "2"],
                       stdout=subprocess.DEVNULL)
    peak = 0
    while run.poll() is None:
        peak = max(peak, resident(run))
        time.sleep(0.05)
    if run.returncode:
        raise RuntimeError("preparing the 200 images failed")
    return peak / 2**20


def resident(process: psutil.Process) -> int:
    """Bytes of a process and its descendants; pages that they share count for each."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    main()
