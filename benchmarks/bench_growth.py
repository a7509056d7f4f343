"""How the time of each step grows with the images: exponents at one, two and four times as many.

    python benchmarks/bench_growth.py [--quick] [--per-image]

Processor seconds of this process and of those that it starts. Preparing, its resume check, prediction by a
detector of constant time, and the merge of its shards have phantoms of 160 px as DICOM; listing has as many
links again in 97 folders, or a folder for each PNG file with a table beside all of them; writing, converting,
fusing and evaluating have tables of phantoms' numbers. The growth of the metrics is in
benchmarks/bench_metrics.py.

--per-image prints the seconds of an image beside the exponents, for the table of docs/scale.md, and adds
what costs most there: decoding films of VinBigData's sizes to 1024 px, and R50-FPN on pictures of that size.
"""

import contextlib
import io
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_metrics import make_set
from comparison import Row
from growth import Step, exponent, growth_row, measure
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless

from vindr_det import cli, prediction_files
from vindr_det.commands import evaluate, fuse
from vindr_det.data.convert import convert
from vindr_det.data.release import Conversion
from vindr_det.files import write_text
from vindr_det.imaging import image_run
from vindr_det.imaging.prepare import prepare_folder
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target
from vindr_det.parallel import guarded
from vindr_det.phantom.dicom_file import Header, write_dicom
from vindr_det.phantom.radiograph import render
from vindr_det.prediction import Models, Outcome, predict_each
from vindr_det.shards.part import Part
from vindr_det.shards.parts import Parts, keys_of
from vindr_det.shards.share import Shard
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import VINBIGDATA
from vindr_det.submission.long_table import long_table_text

_SIDE = 160


class ConstantDetector:
    """A detector that takes the same short time for each image, and detects a hundred boxes."""

    label_set = VINBIGDATA
    target = Target(_SIDE, True)

    def __init__(self) -> None:
        low = np.random.default_rng(0).uniform(0, _SIDE - 20, (100, 2))
        self._boxes = Predictions(np.hstack([low, low + 20]), np.linspace(1, 0.01, 100), np.arange(100) % 14)

    def __call__(self, images: list) -> list[Predictions]:
        return [self._boxes] * len(images)


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="few images and one turn")
    parser.add_argument("--per-image", action="store_true", help="print the seconds of an image too")
    args = parser.parse_args()
    if args.per_image:
        print("| step | images | per image | exponent |\n|---|---|---|---|")
        for line in per_image(args.quick):
            print(line, flush=True)
        return
    from bench import table

    print(table(list(rows(args.quick))))


def rows(quick: bool) -> Iterator[Row]:
    """The exponents against their limit."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        for name, step, sizes in steps(Path(folder), quick):
            yield growth_row(name, step, sizes, turns=1 if quick else 5, clock=processor_time)


def per_image(quick: bool) -> Iterator[str]:
    """Lines of a table: a step's least seconds at most images, for one of them, and the exponent."""
    with tempfile.TemporaryDirectory() as folder:
        work, side = Path(folder), 128 if quick else 1024
        sizes = [4, 8, 16]
        costly: list[tuple[str, Step, list[int]]] = [
            (f"decoding JPEG 2000 to {side} px", partial(decoding, work, JPEG2000Lossless, side), sizes),
            (f"decoding what is not compressed to {side} px",
             partial(decoding, work, ImplicitVRLittleEndian, side), sizes),
            (f"R50-FPN at {side} px, one thread", partial(detecting, side), [1, 2, 4])]
        for name, step, sizes in [*costly, *steps(work, quick)]:
            with quiet():
                seconds = measure(step, sizes, turns=1 if quick else 2, clock=processor_time)
            yield (f"| {name} | {', '.join(f'{size:,}' for size in sizes)} | "
                   f"{float(f'{1000 * seconds[-1] / sizes[-1]:.3g}'):,g} ms | "
                   f"{exponent(sizes, seconds):.2f} |")
        yield ""
        part, files = max(work.glob("written*.jsonl"), key=size_of), (work / "files").iterdir()
        count = len(part.read_bytes().splitlines()) - 2  # an empty line and the settings
        yield (f"An image has {size_of(part) / count / 1000:.3g} KB in a part and "
               f"{sum(map(size_of, files)) / count / 1000:.3g} KB in the files.")


def size_of(path: Path) -> int:
    """Bytes of a file."""
    return path.stat().st_size


def steps(work: Path, quick: bool) -> Iterator[tuple[str, Step, list[int]]]:
    """Name, step and numbers of images."""
    film = work / "film.dicom"
    write_dicom(film, "film", render(np.random.default_rng(0), _SIDE, _SIDE, [3]),
                Header("1.2.840.10008.1.2", 12, True, True, 0.14, "050Y", True))
    few, many = (8, 40) if quick else (250, 1500)
    for name, step, count in (
            ("preparing", preparing, few), ("its resume check", resuming, few),
            ("listing", listing, many), ("listing PNG, one per folder", listing_folders, many),
            ("predicting", predicting, few), ("writing parts", writing_parts, few),
            ("merging shards", merging, few), ("writing the files", writing, few),
            ("converting", converting, many), ("fusing two files", fusing, few),
            ("evaluating", evaluating, few)):
        yield name, partial(step, work, film), [count, 2 * count, 4 * count]


def processor_time() -> float:
    """Seconds of this process and of those that have ended under it."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the commands print."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def films(work: Path, film: Path, count: int) -> Path:
    """A folder with links to a file under ``count`` names."""
    folder = work / f"films{count}"
    if not folder.is_dir():
        folder.mkdir()
        for number in range(count):
            os.link(film, folder / f"{number:06d}.dicom")
    return folder


@contextlib.contextmanager
def serial() -> Iterator[Callable]:
    """A runner in this process."""
    yield lambda work, items: ((item, guarded(work, item)) for item in items)


def preparing(work: Path, film: Path, count: int) -> Callable[[], Any]:
    images, out = films(work, film, count), work / f"prepared{count}"

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        prepare_folder(images, out, Target(128, True), runner=serial())
    return run


def resuming(work: Path, film: Path, count: int) -> Callable[[], Any]:
    preparing(work, film, count)()
    return lambda: prepare_folder(films(work, film, count), work / f"prepared{count}", Target(128, True),
                                  resume=True, runner=serial())


def listing(work: Path, film: Path, count: int) -> Callable[[], Any]:
    folder = work / f"names{count}"
    for number in range(count):
        below = folder / f"{number % 97}"
        below.mkdir(parents=True, exist_ok=True)
        os.link(film, below / f"{number:06d}.dicom")
        (below / f"1.2.840.{number}").symlink_to(film)
    return lambda: image_run.find(folder, recursive=True)


def listing_folders(work: Path, film: Path, count: int) -> Callable[[], Any]:
    folder = work / f"studies{count}/all"
    names = [f"{number:06d}" for number in range(count)]
    for name in names:
        (folder / f"of{name}").mkdir(parents=True)
        (folder / f"of{name}/{name}.png").write_bytes(b"")
    write_text(folder / "meta.csv", lines("image_id,dim0,dim1", (f"{name},3000,2500" for name in names)))
    return lambda: image_run.find(folder.parent, recursive=True)


def predicting(work: Path, film: Path, count: int) -> Callable[[], Any]:
    images = films(work, film, count)
    return lambda: require_all(predict_each(image_run.find(images), Models([ConstantDetector()]), workers=0),
                               count)


def require_all(outcomes: Iterable[Outcome], count: int) -> None:
    """Use up outcomes, each of which should be a prediction."""
    if sum(outcome.prediction is not None for outcome in outcomes) != count:
        raise RuntimeError("some images were not predicted")


def outcomes_of(work: Path, film: Path, count: int) -> list[Outcome]:
    """The outcomes of a run."""
    run = image_run.find(films(work, film, count))
    return list(predict_each(run, Models([ConstantDetector()]), workers=0))


def writing_parts(work: Path, film: Path, count: int) -> Callable[[], Any]:
    outcomes, keys = outcomes_of(work, film, count), keys_of(image_run.find(films(work, film, count)))
    path = work / f"written{count}.jsonl"

    def write() -> None:
        path.unlink(missing_ok=True)
        with Part(path, keys, {}) as part:
            for outcome in outcomes:
                part.add(outcome)
    return write


def merging(work: Path, film: Path, count: int) -> Callable[[], Any]:
    run, models = image_run.find(films(work, film, count)), Models([ConstantDetector()])
    parts = Parts(work / f"parts{count}", {})
    for index in range(4):
        parts.predict_shard(run, Shard(index, 4), lambda: models, 1, 0)
    return lambda: require_all(parts.outcomes(run, models, 1, 0), count)


def writing(work: Path, film: Path, count: int) -> Callable[[], Any]:
    outcomes = outcomes_of(work, film, count)
    return lambda: prediction_files.write(work / "files/s.csv", outcomes, VINBIGDATA)


def decoding(work: Path, syntax: str, side: int, count: int) -> Callable[[], Any]:
    from bench_prepare import film_shapes, make_films_of

    folder, shapes = work / syntax, film_shapes(syntax)
    if not folder.is_dir():
        make_films_of(folder, syntax, shapes)
    paths = sorted(folder.iterdir()) * (count // len(shapes))
    return lambda: [read_image(path, Target(side, True)) for path in paths]


def detecting(side: int, count: int) -> Callable[[], Any]:
    import torch
    from bench_inference import CONFIG, random_state

    from vindr_det.detection import engine as engines
    from vindr_det.detection.loading import load_config

    torch.set_num_threads(1)
    torch.manual_seed(0)
    cfg = load_config(CONFIG, "torchvision", [
        "MODEL.DEVICE", "cpu", "VINDR.IMAGE_SIZE", side, "MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TEST", side,
        "INPUT.MAX_SIZE_TEST", side])
    detector = engines.load("torchvision").build_predictor(cfg, random_state("torchvision", cfg))
    image = (render(np.random.default_rng(0), side, side * 5 // 6, [3]).pixels >> 4).astype(np.uint8)
    return lambda: [detector([image]) for _ in range(count)]


def tables(work: Path, count: int) -> tuple[list[Path], Path, Path]:
    """Two files of predictions, annotations and sizes of ``count`` images."""
    folder = work / f"tables{count}"
    predictions, records = make_set(np.random.default_rng(0), count)
    others, _ = make_set(np.random.default_rng(1), count)
    files = []
    for name, boxes in (("a", predictions), ("b", others)):
        files.append(folder / f"{name}.csv")
        write_text(files[-1], long_table_text(boxes))
    write_text(folder / "meta.csv", lines("image_id,dim0,dim1", (
        f"{record.image_id},{record.height},{record.width}" for record in records)))
    write_text(folder / "train.csv", lines(
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", (
            row for record in records for reader in range(3) for row in readings(record, reader))))
    return files, folder / "train.csv", folder / "meta.csv"


def lines(head: str, rest: Iterable[str]) -> str:
    """A table's text."""
    return "\n".join([head, *rest]) + "\n"


def readings(record: Any, reader: int) -> Iterator[str]:
    """A reader's rows of an image."""
    truth = record.truth
    if not len(truth):
        yield f"{record.image_id},No finding,14,R{reader},,,,"
    for box, label in zip(truth.boxes.tolist(), truth.labels.tolist(), strict=True):
        yield (f"{record.image_id},{VINBIGDATA.classes[label]},{label},R{reader},"
               f"{','.join(f'{side:.1f}' for side in box)}")


def converting(work: Path, film: Path, count: int) -> Callable[[], Any]:
    _, annotations, meta = tables(work, count)
    return lambda: convert("vinbigdata", work / f"converted{count}", Conversion(folds=5),
                           annotations=annotations, meta=meta)


def fusing(work: Path, film: Path, count: int) -> Callable[[], Any]:
    files, _, meta = tables(work, count)
    return lambda: fuse.main(["--predictions", *map(str, files), "--meta", str(meta), "--workers", "1",
                              "--out", str(work / "fused.csv")])


def evaluating(work: Path, film: Path, count: int) -> Callable[[], Any]:
    files, annotations, meta = tables(work, count)
    return lambda: evaluate.main(["--predictions", str(files[0]), "--annotations", str(annotations),
                                  "--meta", str(meta)])


if __name__ == "__main__":
    main()
