#!/usr/bin/env python
"""Draw true and predicted boxes on images, as PNG.

    python tools/visualize.py --images DIR --annotations test_annotations.csv --predictions S.csv --out DIR
    python tools/visualize.py --images DIR --annotations A.json --augment configs/vindr_frcnn.yaml --out DIR

Boxes are in the originals' pixels; for images that were made smaller, --meta (or meta.csv beside
them) tells the original sizes. Abnormal images come first; predictions below --score are left out.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli
from vindr_det.files import write_png

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files")
    parser.add_argument("--annotations", required=True, help="COCO .json or VinBigData .csv")
    parser.add_argument("--predictions", help="a submission")
    parser.add_argument("--out", required=True, help="folder for <image_id>.png")
    parser.add_argument("--meta", help="image_id,dim0,dim1 of the originals")
    parser.add_argument("--score", type=float, default=0.3, help="leave out predictions below")
    parser.add_argument("--count", type=int, default=8, help="how many images")
    parser.add_argument("--augment", metavar="CONFIG", help="draw instead how this detector's config "
                        "augments: augmentations.png, a row an image")
    args = parser.parse_args(argv)

    from vindr_det.data.truth import read_truth
    from vindr_det.evaluation import visualize
    from vindr_det.imaging import image_run
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.imaging.read import read_image
    from vindr_det.parallel import Failure, guarded
    from vindr_det.submission import read_submission

    run = image_run.find(args.images, meta=args.meta)
    require_apart(run.sources, args.out)
    paths = {source.image_id: source.path for source in run.inputs if not source.problem}
    predictions = read_submission(args.predictions) if args.predictions else {}
    records = [record for record in read_truth(args.annotations) if record.image_id in paths]
    records.sort(key=lambda record: (record.normal, -len(record.truth), record.image_id))
    if args.augment:
        from vindr_det.detection.loading import load_config

        grid = visualize.augmentations(load_config(args.augment, "torchvision"),
                                       [(r, paths[r.image_id]) for r in records[: args.count]])
        write_png(Path(args.out) / "augmentations.png", grid)
        print(f"{min(args.count, len(records))} images augmented in {args.out}/augmentations.png")
        return
    drawn = 0
    for record in records[: args.count]:
        read = guarded(read_image, paths[record.image_id])
        if isinstance(read, Failure):
            log.warning("no picture: %s", read.reason)
            continue
        image = read.pixels
        height, width = run.sizes.get(record.image_id, (read.height, read.width))
        found = predictions.get(record.image_id)
        shown = found[found.scores >= args.score] if found is not None else None
        picture = visualize.overlay(image, record.truth, shown, height, width)
        write_png(Path(args.out) / f"{record.image_id}.png", picture)
        drawn += 1
    print(f"{drawn} pictures in {args.out}")


if __name__ == "__main__":
    cli.run(main)
