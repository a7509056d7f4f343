"""Draw true and predicted boxes on images, as PNG.

    vindr-det visualize --images DIR --annotations test_annotations.csv --predictions S.csv --out DIR
    vindr-det visualize --images x.dicom --predictions S.csv --out DIR
    vindr-det visualize --images DIR --predictions S.csv --grid 5 --count 25 --out DIR
    vindr-det visualize --images DIR --annotations A.json --ids ID1 ID2 --out DIR
    vindr-det visualize --images DIR --annotations A.json --augment configs/vindr_frcnn.yaml --out DIR

A box has the color of its finding, and its label the score. With --annotations and --predictions the lines
tell true positives (at IoU > 0.4, as the metric matches), false positives and missed boxes apart. Crowded
labels are numbers, with a key below the image. index.html beside the pictures shows all of them, by finding
and by outcome, without a network.

Boxes are in the originals' pixels; for images that were made smaller, --meta (or meta.csv beside them) has
the original sizes, or else a COCO .json or the status table beside the predictions. Predictions below --score
are left out. An image that was not read, by that table, or not predicted has that in its legend, as has one
whose size or UID that table contradicts: the predictions are of another image. Images come by their id, with
--annotations only annotated ones, abnormal ones first; with --ids exactly these.
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from vindr_det import cli

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)

    from vindr_det.data.truth import read_truth
    from vindr_det.evaluation.visualize import choose
    from vindr_det.imaging import image_run
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.tables import read_names

    _check(args)
    run = image_run.find(args.images, args.recursive, meta=args.meta)
    require_apart(run.sources, args.out)
    paths = {source.image_id: source.path for source in run.inputs if not source.problem}
    records = read_truth(args.annotations) if args.annotations else None
    seed = args.seed if args.random else None
    subjects = choose(paths, records, args.count, read_names(args.ids or ()), seed)
    if args.augment:
        _augment(args, subjects, records)
    else:
        _draw(args, subjects, run, records)


def _parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files, or one file")
    parser.add_argument("--recursive", action="store_true", help="include subfolders, as vindr-det predict "
                        "--recursive does")
    parser.add_argument("--annotations", help="truth: COCO .json or VinBigData .csv")
    parser.add_argument("--predictions", help="prediction file")
    parser.add_argument("--out", required=True, help="folder for <image_id>.png and index.html")
    parser.add_argument("--meta", help="original sizes: image_id,dim0,dim1")
    parser.add_argument("--score", type=float, default=0.3, help="leave out predictions below this score")
    parser.add_argument("--count", type=int, default=8, help="number of images")
    parser.add_argument("--ids", nargs="+", metavar="ID", help="draw these images; ids, or .txt or .csv "
                        "files with an id in each line")
    parser.add_argument("--random", action="store_true", help="draw the images at random")
    cli.add_seed(parser, what="of --random")
    parser.add_argument("--grid", type=int, metavar="COLUMNS", help="one sheet, grid.png, instead of a file "
                        "per image")
    parser.add_argument("--side", type=int, help="longest side of a picture; 900, on a grid 480 if not given")
    parser.add_argument("--augment", metavar="CONFIG", help="a detector's config: draw its augmentation "
                        "instead, augmentations.png with one row per image")
    return parser


def _check(args: Namespace) -> None:
    """Refuse options that mean nothing."""
    from vindr_det.exceptions import InputError

    for name, value, low in (("count", args.count, 1), ("grid", args.grid, 1), ("side", args.side, 64)):
        if value is not None and value < low:
            raise InputError(f"--{name} {value}: expected {low} or more")
    if not 0 <= args.score <= 1:
        raise InputError(f"--score {args.score}: expected 0 to 1")
    if args.augment and not args.annotations:
        raise InputError("--augment: expected --annotations, whose boxes it changes too")


def _augment(args: Namespace, subjects, records) -> None:
    """Write ``augmentations.png``."""
    from vindr_det.detection.loading import load_config
    from vindr_det.evaluation.visualize import augmentation_grid
    from vindr_det.files import write_png

    of_id = {record.image_id: record for record in records}
    items = [(of_id[subject.image_id], subject.path) for subject in subjects if subject.image_id in of_id]
    grid = augmentation_grid(load_config(args.augment, "torchvision"), items)
    write_png(Path(args.out) / "augmentations.png", grid)
    print(f"{len(items)} images augmented in {args.out}/augmentations.png")


def _draw(args: Namespace, subjects, run, records) -> None:
    """Write a picture per image and their index, or a sheet of all."""
    from vindr_det.evaluation.visualize import known_sizes, pictures, unreadable, write_grid, write_overlays
    from vindr_det.imaging.status import read_statuses
    from vindr_det.submission import read_submission

    predictions, statuses = None, {}
    if args.predictions:
        predictions = read_submission(args.predictions, annotations=args.annotations)
        statuses = read_statuses(args.predictions)
        _warn_of_absent(args, [source.image_id for source in run.inputs], {*predictions, *statuses})
    sizes = known_sizes(run.sizes, args.annotations)
    side = args.side or (480 if args.grid else 900)
    drawn = pictures(subjects, predictions, sizes, args.score, side, statuses)
    others = [] if args.ids else unreadable(run.inputs, records)
    if args.grid:
        count = write_grid(args.out, chain(drawn, others[:args.count]), args.grid, side)
        print(f"{count} pictures on {args.out}/grid.png")
        return
    count = write_overlays(args.out, chain(drawn, others), args.predictions or "")
    print(f"{count} pictures in {args.out}; all of them: {args.out}/index.html")


def _warn_of_absent(args: Namespace, present: Sequence[str], predicted: set[str]) -> None:
    """Say that a folder lacks images that were predicted, such as those of its subfolders."""
    absent = sorted(predicted.difference(present))
    if absent and Path(args.images).is_dir():
        hint = "" if args.recursive else "; --recursive includes subfolders"
        log.warning("%d of %d predicted images are not in %s, such as %s%s", len(absent), len(predicted),
                    args.images, absent[0], hint)
