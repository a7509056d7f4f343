#!/usr/bin/env python
"""VinBigData's train.csv to COCO JSON: readers' boxes to a consensus, images to folds.

    python tools/convert_vindr.py --annotations raw/train.csv --meta datasets/vindr/train/meta.csv \\
        --images datasets/vindr/train --out datasets/vindr/annotations --folds 5

Writes instances_all.json, instances_train_fold{k}.json, instances_val_fold{k}.json, folds.csv and
instances_readers.json, which keeps every reader's own boxes. Boxes are in the original images'
pixels; normal images are kept, without annotations. The same as ``convert.py vinbigdata``.
"""

from collections.abc import Sequence

from vindr_det import cli
from vindr_det.data.conversion_options import add_options, convert_by_options


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    add_options(parser, "vinbigdata")
    print(convert_by_options(parser.parse_args(argv)))


if __name__ == "__main__":
    cli.run(main)
