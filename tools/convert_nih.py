#!/usr/bin/env python
"""NIH ChestX-ray14's tables to labels, folds by patient, COCO boxes and the usual lists.

    python tools/convert_nih.py --labels raw/Data_Entry_2017_v2020.csv --boxes raw/BBox_List_2017.csv \\
        --lists cadlab --lists-dir raw/lists --out datasets/nih --folds 5

Writes labels.csv (image, patient, view, a 0/1 column per label, fold), instances_bbox.json, and
train.csv, val.csv and test.csv of the lists. A patient in two parts is an error that names the
patient; counts are checked against the published ones.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--labels", required=True, help="Data_Entry_2017*.csv (also .gz)")
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--boxes", help="BBox_List_2017.csv")
    parser.add_argument("--lists", choices=["cadlab", "chexnet"],
                        help="cadlab: normal/abnormal; chexnet: 14 labels")
    parser.add_argument("--lists-dir", help="folder with the train, val and test lists")
    parser.add_argument("--folds", type=int, default=5, help="number of folds")
    cli.add_seed(parser, what="of the folds")
    args = parser.parse_args(argv)

    from vindr_det.data.convert import convert
    from vindr_det.data.release import Conversion

    options = Conversion(folds=args.folds, seed=args.seed, lists=args.lists)
    print(convert("nih", args.out, options, labels=args.labels, boxes=args.boxes, lists_dir=args.lists_dir))


if __name__ == "__main__":
    cli.run(main)
