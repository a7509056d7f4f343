"""Choose a gate on out-of-fold predictions; apply one to a prediction file.

    vindr-det gate fit --probabilities oof.csv --predictions D.csv --annotations G --out gate.json
    vindr-det gate apply --predictions S.csv --probabilities P.csv --gate gate.json --out O.csv

For fit, both files are of images that their model was not trained on: --predictions of a detector,
--probabilities of a classifier. fit compares the forms by cross-validation over the folds of --probabilities:
none (no classifier), append, hard, scale, and, where the file has a column per finding, rescore; it prints
each with its gain over no classifier. For other people's files, --column and --meaning name the column and
what it holds. P(no finding) given as P(abnormal) is refused: fit sees it from the annotations, apply from the
boxes and from the column's meaning at the fit. apply refuses images that the gate was fitted on.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_fit(commands.add_parser("fit", help="choose form and parameters"))
    _add_apply(commands.add_parser("apply", help="gate a prediction file"))
    args = parser.parse_args(argv)
    (fit if args.command == "fit" else apply)(args)


def _add_fit(parser: ArgumentParser) -> None:
    parser.add_argument("--probabilities", required=True, help="a classifier's out-of-fold P(abnormal)")
    parser.add_argument("--predictions", required=True, help="submission with a detector's boxes")
    parser.add_argument("--annotations", required=True, help="COCO .json or VinBigData .csv")
    parser.add_argument("--out", required=True, help="JSON to write")
    parser.add_argument("--folds", type=int, default=5,
                        help="of the cross-validation, where --probabilities has no folds or a single one")
    parser.add_argument("--bootstrap", type=cli.replicates, default=1000,
                        help="bootstrap replicates of the intervals")
    _add_column(parser)


def _add_apply(parser: ArgumentParser) -> None:
    parser.add_argument("--predictions", required=True, help="submission to gate")
    parser.add_argument("--probabilities", required=True, help="a classifier's P(abnormal)")
    cli.add_annotations_of_results(parser)
    parser.add_argument("--gate", required=True, help="JSON of vindr-det gate fit or tune.py")
    parser.add_argument("--out", required=True, help="submission to write")
    parser.add_argument("--allow-in-sample", action="store_true",
                        help="accept images that the gate was fitted on")
    _add_column(parser)


def _add_column(parser: ArgumentParser) -> None:
    parser.add_argument("--column", help="of --probabilities; p_abnormal, or else p_no_finding, if not given")
    parser.add_argument("--meaning", choices=["p_abnormal", "p_no_finding"],
                        help="what --column holds; by its name, or else p_abnormal, if not given")
    parser.add_argument("--allow-inverted", action="store_true",
                        help="accept probabilities that contradict the annotations or the boxes")


def fit(args: Namespace) -> None:
    """Choose a gate on out-of-fold predictions, and write it."""
    from vindr_det.classification.probabilities import find_probability_column, read_classifier_outputs
    from vindr_det.data.truth import read_truth
    from vindr_det.files import require_writable
    from vindr_det.postprocessing import gate_fit
    from vindr_det.structures.detections import label_set_of
    from vindr_det.submission import read_submission

    require_writable(args.out)
    column = find_probability_column(args.probabilities, args.column, args.meaning, args.allow_inverted)
    predictions = read_submission(args.predictions, annotations=args.annotations)
    outputs = read_classifier_outputs(args.probabilities, *column, label_set_of(predictions))
    records = gate_fit.with_predictions(read_truth(args.annotations), predictions)
    folds = gate_fit.folds_of(args.probabilities, [record.image_id for record in records], args.folds)
    fitted = gate_fit.fit(predictions, records, outputs, folds, args.bootstrap,
                          args.probabilities, args.allow_inverted)
    sources = {name: getattr(args, name) for name in ("probabilities", "predictions", "annotations")}
    gate_fit.save(args.out, fitted, sources, column)
    print(f"{fitted.text()}\n{args.out}")
    cli.say_next("gate", "apply", "--gate", args.out, "--predictions", "SUBMISSION.csv", "--probabilities",
                 "PROBABILITIES.csv", "--out", "gated.csv")


def apply(args: Namespace) -> None:
    """Apply a gate to a prediction file."""
    from vindr_det.classification.probabilities import find_probability_column, read_classifier_outputs
    from vindr_det.data.in_sample import refuse_in_sample
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.imaging.status import read_statuses, status_path_of
    from vindr_det.postprocessing import gate_fit
    from vindr_det.postprocessing.agreement import AgreementCheck
    from vindr_det.postprocessing.gate import gate_all
    from vindr_det.structures.detections import label_set_of
    from vindr_det.submission import outputs as files
    from vindr_det.submission import read_submission, submission_text

    files.require_all_writable(args.out)
    require_apart([args.predictions, status_path_of(args.predictions), args.probabilities, args.gate],
                  *files.output_paths(args.out))
    saved = gate_fit.read(args.gate)
    predictions = read_submission(args.predictions, annotations=args.annotations)
    if not args.allow_in_sample:
        refuse_in_sample(args.gate, list(predictions))
    column = find_probability_column(args.probabilities, args.column, args.meaning, args.allow_inverted)
    outputs = read_classifier_outputs(args.probabilities, *column, label_set_of(predictions))
    if saved.gate.needs_classifier and not args.allow_inverted:
        saved.check_column(args.probabilities, column)
        check = AgreementCheck(args.probabilities)
        check.add((outputs[image_id], predictions[image_id]) for image_id in predictions
                  if image_id in outputs)
        check.finish()
    gated = gate_all(saved.gate, predictions, outputs)
    statuses = files.inherited(gated, [read_statuses(args.predictions)])
    unread = [status.image_id for status in statuses if status.image_id not in gated]
    probabilities = {image_id: outputs[image_id].named for image_id in gated if image_id in outputs}
    text = submission_text(args.out, gated, unread=unread)
    files.write_results(args.out, gated, statuses, text, probabilities)
    print(f"{args.out}: {len(gated)} images, gate {saved.gate}; {len(unread)} images that were not read")
    cli.say_next("evaluate", "--predictions", args.out, "--annotations", args.annotations or "ANNOTATIONS")
