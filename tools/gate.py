#!/usr/bin/env python
"""Choose a gate on out-of-fold predictions; apply one to a submission.

    python tools/gate.py fit --oof oof_predictions.csv --predictions D.csv --annotations G --out gate.json
    python tools/gate.py apply --submission S.csv --probabilities P.csv --gate gate.json --out O.csv

--predictions are a detector's boxes on images that it has not been trained on, --oof a classifier's
probabilities of the same kind. fit tries five forms by cross-validation over the folds of --oof: no
classifier, soft append, hard bands, soft scale, and, where the file has a column per finding, re-scoring; it
prints each with its gain over no classifier. Files of others: --column and --meaning tell what their column
means. P(no finding) given as P(abnormal) is refused: fit sees it by the annotations, apply by the boxes and
by the column's meaning at the fit. apply refuses images that the gate was fitted on.
"""

from argparse import Namespace
from collections.abc import Sequence

from vindr_det import cli
from vindr_det.data.truth import read_truth


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    filter_compatible = commands.add_parser("fit", help="choose form and parameters")
    filter_compatible.add_argument("--oof", required=True, help="probabilities out of fold")
    filter_compatible.add_argument("--predictions", required=True, help="a submission for the same images")
    filter_compatible.add_argument("--annotations", required=True, help="COCO .json or VinBigData .csv")
    filter_compatible.add_argument("--out", required=True, help="JSON to write")
    filter_compatible.add_argument("--folds", type=int, default=5,
                         help="parts, where --oof tells no folds or all images are of one")
    filter_compatible.add_argument("--bootstrap", type=cli.replicates, default=1000, help="resamples of the intervals")
    applying = commands.add_parser("apply", help="gate a submission")
    applying.add_argument("--submission", required=True)
    applying.add_argument("--probabilities", required=True, help="of the same images")
    applying.add_argument("--gate", required=True, help="JSON of fit")
    applying.add_argument("--out", required=True, help="submission to write")
    applying.add_argument("--allow-in-sample", action="store_true",
                          help="also images that the gate was fitted on")
    for one in (filter_compatible, applying):
        one.add_argument("--column", help="of the probabilities; default p_abnormal or p_no_finding")
        one.add_argument("--meaning", choices=["p_abnormal", "p_no_finding"],
                         help="what --column holds; default what its name says, else p_abnormal")
        one.add_argument("--allow-inverted", action="store_true",
                         help="also probabilities that contradict the annotations or the boxes")
    args = parser.parse_args(argv)
    (fit if args.command == "fit" else apply)(args)


def fit(args: Namespace) -> None:
    from vindr_det.classification.probabilities import find_probability_column, read_classifier_outputs
    from vindr_det.files import require_writable
    from vindr_det.postprocessing import gate_fit
    from vindr_det.submission import read_submission

    require_writable(args.out)
    column = find_probability_column(args.oof, args.column, args.meaning, args.allow_inverted)
    outputs = read_classifier_outputs(args.oof, *column)
    predictions = read_submission(args.predictions)
    folds = gate_fit.folds_of(args.oof, list(predictions), args.folds)
    records = read_truth(args.annotations)
    fitted = gate_fit.fit(predictions, records, outputs, folds, args.bootstrap, args.oof, args.allow_inverted)
    gate_fit.save(args.out, fitted, {"oof": args.oof, "predictions": args.predictions,
                                     "annotations": args.annotations}, column)
    print(fitted.text())


def apply(args: Namespace) -> None:
    from vindr_det.classification.probabilities import find_probability_column, read_classifier_outputs
    from vindr_det.data.in_sample import refuse_in_sample
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.imaging.status import read_statuses, status_path
    from vindr_det.postprocessing import gate_fit
    from vindr_det.postprocessing.gate import AgreementCheck
    from vindr_det.submission import read_submission, submission_text
    from vindr_det.submission.tables import inherited, require_all_writable, write_results, written

    require_all_writable(args.out)
    require_apart([args.submission, status_path(args.submission), args.probabilities, args.gate],
                  *written(args.out))
    saved = gate_fit.read(args.gate)
    predictions = read_submission(args.submission)
    if not args.allow_in_sample:
        refuse_in_sample(args.gate, list(predictions))
    column = find_probability_column(args.probabilities, args.column, args.meaning, args.allow_inverted)
    outputs = read_classifier_outputs(args.probabilities, *column)
    if saved.gate.form != "none" and not args.allow_inverted:
        saved.check_column(args.probabilities, column)
        AgreementCheck(args.probabilities)(outputs, predictions, finished=True)
    gated = saved.gate.apply(predictions, outputs)
    statuses = inherited(gated, [read_statuses(args.submission)])
    unread = [status.image_id for status in statuses if status.image_id not in gated]
    write_results(args.out, gated, statuses, submission_text(args.out, gated, unread=unread))
    print(f"{args.out}: {len(gated)} images, gate {saved.gate.form}; {len(unread)} images that were not read")


if __name__ == "__main__":
    cli.run(main)
