"""P(abnormal), or a probability per label, for each image of a folder, with what looks wrong about it.

    vindr-det classify --classifier outputs/nih_binary_effnet_b2 --images DIR --out predictions.csv

The CSV has a row per image that was read: image_id, per label a probability p_... and a decision decision_...
(0 or 1, at an operating point that was chosen out of fold, or at the threshold that is given), calibrated (1
where the classifier's calibrations were applied), and warnings: not radiography, lateral, inverted, colored,
too small. predictions.status.csv beside it has a row per input: ok, flagged or failed, and why. Exit status:
0; 1 with --strict if an image failed; 2 if all did.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--classifier", required=True, help="folder that vindr-det train-classifier wrote")
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files, or one file")
    cli.add_device(parser, "where the classifier runs")
    cli.add_input_options(parser)
    parser.add_argument("--out", required=True, help="CSV to write")
    parser.add_argument("--point", default="youden", help="operating point of the decisions: youden, f1, "
                        "threshold_0.5, sensitivity_0.95, specificity_0.95, or others of POINTS; "
                        "or a number, the threshold of all labels")
    parser.add_argument("--batch-size", type=int,
                        help="images per call of the networks; 8 on a GPU and 1 on a CPU if not given")
    parser.add_argument("--strict", action="store_true", help="exit 1 if any image failed")
    args = parser.parse_args(argv)

    from tqdm import tqdm

    from vindr_det.classification.model import find_checkpoints
    from vindr_det.classification.predict import Classifier, classify_each, read_thresholds, write
    from vindr_det.device import batch_size
    from vindr_det.files import require_writable
    from vindr_det.imaging import image_run, status
    from vindr_det.imaging.inputs import require_apart

    require_writable(args.out)
    table = status.status_path(args.out)
    require_writable(table)
    batch = batch_size(args.batch_size, args.device)
    find_checkpoints(args.classifier)
    thresholds = read_thresholds(args.classifier, args.point)
    run = image_run.find(args.images, args.recursive, args.max_pixels)
    require_apart(run.sources, args.out, table)
    outcomes = ((failed, None) for failed in run.statuses_if_none_readable())
    if run.readable:
        classifier = Classifier(args.classifier, device=args.device)
        outcomes = tqdm(classify_each(classifier, run, thresholds, args.workers, batch), desc="classify",
                        unit="image", total=len(run.inputs), disable=None)
    written = write(args.out, table, outcomes)
    print(status.summary(written.statuses))
    status.require_some_read(written.statuses, table)
    failed = status.warn(written.statuses, table)
    print(f"{args.out}: {written.images} images, {written.warned} with warnings; {failed} were not read and "
          f"have no row\n{table} has a row for each input")
    cli.say_next("evaluate-classifier", "--predictions", args.out, "--labels", "LABELS.csv")
    return 1 if args.strict and failed else 0
