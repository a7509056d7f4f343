#!/usr/bin/env python
"""VinBigData's train.csv to COCO JSON: readers' boxes to a consensus, images to folds.

    python tools/convert_vindr.py --annotations raw/train.csv --meta datasets/vindr/train/meta.csv \\
        --images datasets/vindr/train --out datasets/vindr/annotations --folds 5

Writes instances_all.json, instances_train_fold{k}.json, instances_val_fold{k}.json, folds.csv and
instances_readers.json, which keeps every reader's own boxes. Boxes are in the original images'
pixels; normal images are kept, without annotations.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--annotations", required=True, help="train.csv (also .gz)")
    parser.add_argument("--meta", required=True, help="image_id,dim0,dim1 of the originals")
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--images", help="folder in which each image must exist")
    parser.add_argument("--fusion", default="wbf", choices=["wbf", "nms", "none"],
                        help="how readers' boxes become a consensus; none keeps them all")
    parser.add_argument("--iou-thr", type=float, default=0.4,
                        help="boxes of one class with a higher IoU are the same finding")
    parser.add_argument("--min-readers", type=int, default=1, help="readers that must agree on a box")
    parser.add_argument("--folds", type=int, default=5, help="number of folds")
    cli.add_seed(parser, what="of the folds")
    parser.add_argument("--patients", help="table of image_id,patient_id: patients share a fold")
    parser.add_argument("--reader-groups", nargs="*", metavar="READER",
                        help="hold out images that none of these readers read, for a second "
                             "validation; without names: R8 R9 R10")
    parser.add_argument("--label-sets", action="store_true",
                        help="also training sets of boxes that at least 2, 3 readers drew")
    args = parser.parse_args(argv)

    from vindr_det.data.convert import convert
    from vindr_det.data.release import Conversion
    from vindr_det.data.vinbigdata import FREQUENT_READERS

    frequent = () if args.reader_groups is None else tuple(args.reader_groups) or FREQUENT_READERS
    options = Conversion(args.fusion, args.iou_thr, args.min_readers, args.folds, args.seed, frequent,
                         args.label_sets)
    print(convert("vinbigdata", args.out, options, annotations=args.annotations, meta=args.meta,
                  images=args.images, patients=args.patients))


if __name__ == "__main__":
    cli.run(main)
