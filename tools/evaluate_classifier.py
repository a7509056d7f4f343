#!/usr/bin/env python
"""Score a classifier's probabilities against labels: AUC, AP, calibration, operating points; compare two.

    python tools/evaluate_classifier.py --predictions oof_predictions.csv --labels annotations/labels.csv
    python tools/evaluate_classifier.py --predictions A.csv --compare B.csv --labels annotations/labels.csv
    python tools/evaluate_classifier.py --predictions peer.csv --labels annotations/labels.csv \\
        --columns effnet resnext densenet --meaning p_no_finding

Labels are a table of convert_vindr.py or convert_nih.py. All columns that both files know are scored, with
95 % intervals; uncertain (-1) and blank labels are left out. Operating points and calibrations are chosen by
other parts of the images than they are counted on, or, with --points, are those that a training stored.
--compare gives the second file's gain on the same images: paired bootstrap of patients, and DeLong's test. A
file of ours names its sign in its column; for others' --columns, --meaning tells whether they hold p_abnormal or
p_no_finding (--compare-meaning for the second file's). An AUC below 0.5 is refused: then it is the other one,
unless --allow-inverted says that the classifier is this bad.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", required=True, help="CSV with image_id and probabilities")
    parser.add_argument("--labels", required=True, help="CSV with image_id and labels")
    parser.add_argument("--columns", nargs="+", help="P(abnormal) by other names; default all that are known")
    parser.add_argument("--meaning", default="p_abnormal", choices=["p_abnormal", "p_no_finding"])
    parser.add_argument("--compare", metavar="CSV", help="a second classifier's file")
    parser.add_argument("--compare-columns", nargs="+", help="of it; default --columns")
    parser.add_argument("--compare-meaning", choices=["p_abnormal", "p_no_finding"], help="default --meaning")
    parser.add_argument("--allow-inverted", action="store_true", help="score an AUC below 0.5 all the same")
    parser.add_argument("--points", metavar="DIR", help="a training whose operating points are counted")
    parser.add_argument("--sensitivity", type=float, nargs="*", default=[0.95], help="wanted; default .95")
    parser.add_argument("--specificity", type=float, nargs="*", default=[0.95], help="wanted; default .95")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the images or patients")
    parser.add_argument("--out", help="folder for metrics.json")
    args = parser.parse_args(argv)

    from vindr_det.classification.external import Request, score
    from vindr_det.classification.operating_points import Targets
    from vindr_det.exceptions import InputError
    from vindr_det.files import write_json
    from vindr_det.limits import require_replicates

    require_replicates(args.bootstrap)
    for name in ("sensitivity", "specificity"):
        for value in getattr(args, name):
            if not 0 < value < 1:
                raise InputError(f"--{name} {value}: expected a number between 0 and 1")
    request = Request(args.columns, args.meaning, args.bootstrap, Targets(args.sensitivity, args.specificity),
                      args.points, args.compare_columns, args.compare_meaning, args.allow_inverted)
    scored = score(args.predictions, args.labels, request, args.compare)
    print(scored.text())
    if args.out:
        write_json(Path(args.out) / "metrics.json", scored.as_json())


if __name__ == "__main__":
    cli.run(main)
