#!/usr/bin/env python
"""Score probabilities of "abnormal" against labels: AUC and AP with 95 % intervals, and of their mean.

    python tools/evaluate_classifier.py --predictions oof_predictions.csv --labels annotations/labels.csv
    python tools/evaluate_classifier.py --predictions peer.csv --labels annotations/labels.csv \\
        --columns effnet resnext densenet --says p_no_finding

Labels are a table of convert_vindr.py or convert_nih.py. A file of ours names its sign in its column;
for others' --columns, --says tells whether they hold p_abnormal or p_no_finding. An AUC below 0.5 is
refused: then it is the other one.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", required=True, help="CSV with image_id and probabilities")
    parser.add_argument("--labels", required=True, help="CSV with image_id and labels")
    parser.add_argument("--columns", nargs="+", help="of probabilities; default p_abnormal or p_no_finding")
    parser.add_argument("--says", default="p_abnormal", choices=["p_abnormal", "p_no_finding"])
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the images or patients")
    parser.add_argument("--out", help="folder for metrics.json")
    args = parser.parse_args(argv)

    from vindr_det.classification import foreign
    from vindr_det.files import write_json

    scored = foreign.score(args.predictions, args.labels, args.columns, args.says, args.bootstrap)
    print(scored.text())
    if args.out:
        write_json(Path(args.out) / "metrics.json", scored.as_json())


if __name__ == "__main__":
    cli.run(main)
