"""A folder of TFRecord files to packed images and label tables, without TensorFlow.

    vindr-det convert-tfrecords --records raw/tfrecords --out datasets/nih/tfrecords

Writes packed.npy for DATA.PACKED, train_val.csv (image, patient where the names tell it, abnormal, fold)
for DATA.LABELS, test.csv of the files --test for DATA.TEST, and damaged.csv: each record that was left out,
with its file, offset and reason. Folds are by patient, not by file. Exit status: 0; 1 with --strict if a
record was left out; 2 if all were.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--records", required=True, help="folder of .tfrec, .tfrecord or .tfrecords files")
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--image-feature", default="image", help="the feature with a JPEG or PNG")
    parser.add_argument("--name-feature", default="image_idx", help="the feature with the image's file name")
    parser.add_argument("--label-feature", default="label", help="the feature with 0 normal, 1 abnormal")
    parser.add_argument("--test", default="test*", help="pattern of the names of files with test images")
    parser.add_argument("--size", type=int, default=256, help="side of the packed images, pixels")
    parser.add_argument("--folds", type=int, default=5, help="number of folds")
    cli.add_seed(parser, what="of the folds")
    parser.add_argument("--strict", action="store_true", help="exit 1 if any record was left out")
    args = parser.parse_args(argv)

    from vindr_det.data.tfrecords import Layout, convert_tfrecords

    layout = Layout(args.image_feature, args.name_feature, args.label_feature, args.test, args.size,
                    args.folds, args.seed)
    summary, damaged = convert_tfrecords(args.records, args.out, layout)
    print(summary)
    cli.say_next("train-classifier", "--config", "CONFIG.yaml", "DATA.LABELS",
                 Path(args.out) / "train_val.csv", "DATA.PACKED", Path(args.out) / "packed.npy")
    return 1 if args.strict and damaged else 0
