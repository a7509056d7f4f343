#!/usr/bin/env python
"""VinBigData's train.csv to COCO JSON: readers' boxes to a consensus, images to folds.

    python tools/convert_vindr.py --csv datasets/vindr/train.csv --meta datasets/vindr/train_meta.csv \\
        --out datasets/vindr/annotations --images datasets/vindr/train --folds 5

Writes instances_all.json, instances_train_fold{k}.json, instances_val_fold{k}.json and folds.csv.
Boxes are in the original images' pixels; normal images are kept, without annotations.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--csv", required=True, help="train.csv (also .gz)")
    parser.add_argument("--meta", required=True, help="image_id,dim0,dim1 of the originals")
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--images", help="folder in which each image must exist")
    parser.add_argument("--fusion", default="wbf", choices=["wbf", "nms", "none"])
    parser.add_argument("--iou-thr", type=float, default=0.4, help="boxes that overlap more are one")
    parser.add_argument("--min-readers", type=int, default=1, help="keep boxes so many drew")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    from vindr_det.convert import convert

    summary = convert(args.csv, args.meta, args.out, images=args.images, fusion=args.fusion,
                      iou_thr=args.iou_thr, min_readers=args.min_readers, folds=args.folds,
                      seed=args.seed)
    print(summary)


if __name__ == "__main__":
    cli.run(main)
