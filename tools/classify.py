#!/usr/bin/env python
"""P(abnormal), or a probability a label, for each image of a folder, with what looks wrong about it.

    python tools/classify.py --model outputs/nih_binary_effnet_b2 --images DIR --out predictions.csv

A row an image: image_id, p_... a label, says_... (0 or 1) at an operating point that was chosen out of fold,
calibrated (1 where the training stored calibrations, which are applied), and warnings: not radiography,
lateral, inverted, coloured, too small. Unreadable images keep their row.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", required=True, help="folder that train_classifier.py wrote")
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files")
    parser.add_argument("--recursive", action="store_true", help="also folders within")
    parser.add_argument("--out", required=True, help="CSV to write")
    parser.add_argument("--point", default="youden", help="operating point: youden, threshold_0.5, "
                        "sensitivity_0.95, specificity_0.95, or as POINTS of the training has it")
    args = parser.parse_args(argv)

    from vindr_det.classification.folder import classify
    from vindr_det.files import require_writable, write_csv

    require_writable(args.out)
    table = classify(args.model, args.images, args.point, args.recursive)
    write_csv(args.out, table)
    warned = table["warnings"].astype(bool).sum()
    print(f"{args.out}: {len(table)} images, {warned} with warnings")


if __name__ == "__main__":
    cli.run(main)
