#!/usr/bin/env python
"""NIH ChestX-ray14's tables to labels, folds by patient, COCO boxes and the usual lists.

    python tools/convert_nih.py --labels raw/Data_Entry_2017_v2020.csv --annotations raw/BBox_List_2017.csv \\
        --lists cadlab --lists-dir raw/lists --out datasets/nih --folds 5

Writes labels.csv (image, patient, view, a 0/1 column per label, fold), instances_bbox.json, and
train.csv, val.csv and test.csv of the lists. A patient in two parts is an error that names the
patient; counts are checked against the published ones. The same as ``convert.py nih``.
"""

from collections.abc import Sequence

from vindr_det import cli
from vindr_det.data.conversion_options import add_options, convert_by_options


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    add_options(parser, "nih")
    print(convert_by_options(parser.parse_args(argv)))


if __name__ == "__main__":
    cli.run(main)
