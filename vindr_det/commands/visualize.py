"""Draw true and predicted boxes on images, as PNG.

    vindr-det visualize --images DIR --annotations test_annotations.csv --predictions S.csv --out DIR
    vindr-det visualize --images DIR --predictions S.csv --grid 5 --count 25 --out DIR
    vindr-det visualize --images DIR --annotations A.json --ids ID1 ID2 --out DIR
    vindr-det visualize --images DIR --annotations A.json --augment configs/vindr_frcnn.yaml --out DIR

Boxes are in the originals' pixels; for images that were made smaller, --meta (or meta.csv beside them) has
the original sizes, or else a COCO .json or the status table beside the predictions. Predictions below --score
are left out. An image that was not read, by that table, or not predicted has that in its legend. Images come
by their id, with --annotations only annotated ones, abnormal ones first; with --ids exactly these.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files, or one file")
    parser.add_argument("--annotations", help="truth: COCO .json or VinBigData .csv")
    parser.add_argument("--predictions", help="prediction file")
    parser.add_argument("--out", required=True, help="folder for <image_id>.png")
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
    args = parser.parse_args(argv)

    from vindr_det.data.truth import read_truth
    from vindr_det.evaluation.visualize import (
        augmentation_grid,
        choose,
        known_sizes,
        pictures,
        write_grid,
        write_overlays,
    )
    from vindr_det.exceptions import InputError
    from vindr_det.files import write_png
    from vindr_det.imaging import image_run
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.imaging.status import read_statuses
    from vindr_det.submission import read_submission
    from vindr_det.tables import read_names

    for name, value, low in (("count", args.count, 1), ("grid", args.grid, 1), ("side", args.side, 64)):
        if value is not None and value < low:
            raise InputError(f"--{name} {value}: expected {low} or more")
    if args.augment and not args.annotations:
        raise InputError("--augment: expected --annotations, whose boxes it changes too")
    run = image_run.find(args.images, meta=args.meta)
    require_apart(run.sources, args.out)
    paths = {source.image_id: source.path for source in run.inputs if not source.problem}
    predictions = read_submission(
        args.predictions, annotations=args.annotations) if args.predictions else None
    records = read_truth(args.annotations) if args.annotations else None
    seed = args.seed if args.random else None
    subjects = choose(paths, records, args.count, read_names(args.ids or ()), seed)
    if args.augment:
        from vindr_det.detection.loading import load_config

        of_id = {record.image_id: record for record in records or ()}
        items = [(of_id[subject.image_id], subject.path) for subject in subjects if subject.image_id in of_id]
        grid = augmentation_grid(load_config(args.augment, "torchvision"), items)
        write_png(Path(args.out) / "augmentations.png", grid)
        print(f"{len(items)} images augmented in {args.out}/augmentations.png")
        return
    side = args.side or (480 if args.grid else 900)
    statuses = read_statuses(args.predictions) if args.predictions else {}
    sizes = known_sizes(run.sizes, args.annotations, statuses)
    drawn = pictures(subjects, predictions, sizes, args.score, side, statuses)
    if args.grid:
        count = write_grid(args.out, drawn, args.grid)
        print(f"{count} pictures on {args.out}/grid.png")
    else:
        print(f"{write_overlays(args.out, drawn)} pictures in {args.out}")
