#!/usr/bin/env python
"""Draw true and predicted boxes on images, as PNG.

    python tools/visualize.py --images DIR --annotations test_annotations.csv --predictions S.csv --out DIR
    python tools/visualize.py --images a.dicom --annotations test_annotations.csv --out DIR
    python tools/visualize.py --images DIR --annotations A.json --augment configs/vindr_frcnn.yaml --out DIR

Boxes are in the originals' pixels; for images that were made smaller, --meta (or meta.csv beside
them) has the original sizes. Abnormal images come first; predictions below --score are left out.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files, or one file")
    parser.add_argument("--annotations", required=True, help="truth: COCO .json or VinBigData .csv")
    parser.add_argument("--predictions", help="prediction file")
    parser.add_argument("--out", required=True, help="folder for <image_id>.png")
    parser.add_argument("--meta", help="original sizes: image_id,dim0,dim1")
    parser.add_argument("--score", type=float, default=0.3, help="leave out predictions below this score")
    parser.add_argument("--count", type=int, default=8, help="number of images")
    parser.add_argument("--augment", metavar="CONFIG", help="a detector's config: draw its augmentation "
                        "instead, augmentations.png with one row per image")
    args = parser.parse_args(argv)

    from vindr_det.data.truth import read_truth
    from vindr_det.evaluation.visualize import augmentation_grid, write_overlays
    from vindr_det.files import write_png
    from vindr_det.imaging import image_run
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.submission import read_submission

    run = image_run.find(args.images, meta=args.meta)
    require_apart(run.sources, args.out)
    paths = {source.image_id: source.path for source in run.inputs if not source.problem}
    predictions = read_submission(args.predictions, annotations=args.annotations) if args.predictions else {}
    records = [record for record in read_truth(args.annotations) if record.image_id in paths]
    records.sort(key=lambda record: (record.normal, -len(record.truth), record.image_id))
    items = [(record, paths[record.image_id]) for record in records[: args.count]]
    if args.augment:
        from vindr_det.detection.loading import load_config

        grid = augmentation_grid(load_config(args.augment, "torchvision"), items)
        write_png(Path(args.out) / "augmentations.png", grid)
        print(f"{len(items)} images augmented in {args.out}/augmentations.png")
        return
    drawn = write_overlays(args.out, items, predictions, run.sizes, args.score)
    print(f"{drawn} pictures in {args.out}")


if __name__ == "__main__":
    cli.run(main)
