"""Score a classifier's probabilities against labels: AUC, AP, calibration, operating points; compare two.

    vindr-det evaluate-classifier --predictions oof_predictions.csv --labels annotations/labels.csv
    vindr-det evaluate-classifier --predictions A.csv --compare B.csv --labels annotations/labels.csv
    vindr-det evaluate-classifier --predictions peer.csv --labels annotations/labels.csv \\
        --columns effnet resnext densenet --meaning p_no_finding
    vindr-det evaluate-classifier --predictions A.csv --labels annotations/labels.csv \\
        --sweep .4 .69 .01 --point f1 --out outputs/scores

--labels is a table of vindr-det convert vinbigdata or nih. All labels that both files have are scored, with
95 % intervals; uncertain (-1) and blank labels are ignored. A file without columns p_<label> may name its
probabilities as the labels are: Atelectasis, Effusion, ... Operating points and calibrations are cross-fitted
on the images, or with --points those that a training stored. --compare gives the second file's gain on the
same images: paired bootstrap of patients, and DeLong's test. Columns named p_abnormal or p_no_finding state
what they hold; for other --columns --meaning does. An AUC of P(abnormal) below 0.5 is refused, because the
probabilities are then probably inverted (--allow-inverted scores them).
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", required=True, help="CSV with image_id and probabilities")
    parser.add_argument("--labels", required=True, help="CSV with image_id and the truth of labels")
    parser.add_argument("--columns", nargs="+", help="columns of P(abnormal); without it all of known labels")
    parser.add_argument("--meaning", default="p_abnormal", choices=["p_abnormal", "p_no_finding"],
                        help="what --columns hold")
    parser.add_argument("--compare", metavar="CSV", help="a second classifier's file")
    parser.add_argument("--compare-columns", nargs="+", help="its columns; without it --columns")
    parser.add_argument("--compare-meaning", choices=["p_abnormal", "p_no_finding"],
                        help="what they hold; without it --meaning")
    parser.add_argument("--allow-inverted", action="store_true", help="accept an AUC below 0.5")
    parser.add_argument("--points", metavar="DIR", help="classifier whose operating points are applied")
    parser.add_argument("--sensitivity", type=float, nargs="*", default=[0.95],
                        help="target sensitivities of operating points")
    parser.add_argument("--specificity", type=float, nargs="*", default=[0.95],
                        help="target specificities of operating points")
    parser.add_argument("--bootstrap", type=int, default=1000,
                        help="bootstrap replicates over patients, or images where patients are not known")
    parser.add_argument("--point", default="threshold_0.5", help="operating point of the table of counts "
                        "(TP, FP, FN, TN, precision, F1, accuracy): threshold_0.5, youden, f1, "
                        "sensitivity_0.95, ...; or a number, the threshold of the probabilities as they are")
    parser.add_argument("--sweep", type=float, nargs=3, metavar=("LOW", "HIGH", "STEP"),
                        help="also a table over thresholds of the probabilities as they are, such as "
                        ".4 .69 .01")
    parser.add_argument("--out", help="folder for metrics.json and roc.png (ROC and precision-recall), with "
                        "--sweep thresholds.csv and thresholds.png")
    args = parser.parse_args(argv)

    from vindr_det.classification.external import ScoringOptions, score, thresholds_between
    from vindr_det.classification.operating_points import TargetRates
    from vindr_det.exceptions import InputError
    from vindr_det.limits import require_replicates

    require_replicates(args.bootstrap)
    for name in ("sensitivity", "specificity"):
        for value in getattr(args, name):
            if not 0 < value < 1:
                raise InputError(f"--{name} {value}: expected a number between 0 and 1")
    targets = TargetRates(args.sensitivity, args.specificity)
    options = ScoringOptions(args.columns, args.meaning, args.bootstrap, targets, args.points,
                             args.compare_columns, args.compare_meaning, args.allow_inverted,
                             thresholds_between(*args.sweep) if args.sweep else ())
    scores = score(args.predictions, args.labels, options, args.compare)
    print(scores.text(args.point))
    if args.out:
        scores.write(args.out)
