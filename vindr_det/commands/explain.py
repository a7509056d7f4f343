"""Grad-CAM of a classifier: an overlay per label beside each image, as one PNG per image, or one sheet.

    vindr-det explain --classifier outputs/nih_multilabel_densenet121 --images DIR --out DIR
    vindr-det explain --classifier outputs/nih_multilabel_densenet121 --images DIR --out DIR \\
        --sheet 4 --best 4 --annotations datasets/nih/tables/test.csv

Maps are of the most probable labels (--top), of given ones (--labels) or of those with the highest AUC in the
training (--best), the mean over the folds. With --sheet: sheet.png, a row per label with the images that have
its highest probabilities, framed green where the image has the label by --annotations, red where it does not,
gray where that is not known. A map shows where the evidence for a label is, not the extent of a finding: for
boxes use the detector. With --boxes or --true-boxes, the boxes of each
label are drawn over its map, and agreement.csv has the share of the map that lies inside them, their share of
the image, which a map that is the same everywhere would have, and whether the map's maximum is inside one
(the pointing game). status.csv has a row per image that was tried: ok, flagged or failed, and why. Exit
status: 0; 1 with --strict if an image failed; 2 if all did.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)

    from vindr_det.classification.gradcam import Explainer, draw_all
    from vindr_det.classification.model import find_checkpoints
    from vindr_det.classification.predict import Classifier
    from vindr_det.exceptions import InputError
    from vindr_det.files import make_folder, write_text
    from vindr_det.imaging import image_run, status
    from vindr_det.imaging.inputs import require_apart

    for name in ("top", "count", "sheet", "best"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise InputError(f"--{name} {value}: expected 1 or more")
    for name in ("predictions", "annotations"):
        if getattr(args, name) and not args.sheet:
            raise InputError(f"--{name}: expected --sheet, which it is for")
    if args.maps and args.sheet:
        raise InputError("--maps with --sheet: expected one of the two")
    for name in ("boxes", "true_boxes"):
        if getattr(args, name) and args.sheet:
            raise InputError(f"--{name.replace('_', '-')} with --sheet: expected one of the two")
    if args.labels and args.best:
        raise InputError("--labels with --best: expected one of the two")
    find_checkpoints(args.classifier)
    run, out = image_run.find(args.images, args.recursive, args.max_pixels), Path(args.out)
    require_apart(run.sources, out)
    statuses, compared = run.statuses_if_none_readable(), _comparison(args)
    if not statuses:
        classifier = Classifier(args.classifier, device=args.device)
        labels = _labels(args, classifier)
        if args.sheet:
            statuses = _write_sheet(args, Explainer(classifier), run, labels or classifier.columns)
        else:
            places = [classifier.columns.index(name) for name in labels]
            statuses = draw_all(Explainer(classifier), run, make_folder(out), places, args.top, args.count,
                                args.workers, make_folder(args.maps) if args.maps else None, compared)
    table = make_folder(out) / "status.csv"
    status.write_status(table, statuses)
    if compared:
        write_text(out / "agreement.csv", compared.text())
    print(status.summary(statuses))
    status.require_some_read(statuses, table)
    failed = status.warn(statuses, table)
    drawn = "sheet.png" if args.sheet else f"{len(statuses) - failed} pictures"
    print(f"{out}: {drawn}; status.csv has a row for each image that was tried")
    return 1 if args.strict and failed else 0


def _parser() -> Any:
    parser = cli.parser(__doc__)
    parser.add_argument("--classifier", required=True, help="folder that vindr-det train-classifier wrote")
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files, or one file")
    cli.add_device(parser, "where the classifier runs")
    cli.add_input_options(parser)
    parser.add_argument("--out", required=True, help="folder for <image_id>.png or sheet.png")
    parser.add_argument("--top", type=int, default=3, help="number of labels")
    parser.add_argument("--labels", nargs="+", metavar="P_LABEL",
                        help="labels by their columns, such as p_nodule_mass, instead of --top")
    parser.add_argument("--best", type=int, metavar="N", help="the N labels with the highest AUC in the "
                        "training's metrics.json, instead of --top")
    parser.add_argument("--count", type=int, default=20, help="number of pictures")
    parser.add_argument("--sheet", type=int, metavar="N", help="one sheet instead: per label (all, --labels "
                        "or --best) the N images with its highest probabilities")
    parser.add_argument("--predictions", help="sheet: probabilities that vindr-det classify wrote, instead "
                        "of classifying all images first")
    parser.add_argument("--annotations", help="sheet: label table, for green and red frames")
    parser.add_argument("--maps", metavar="DIR", help="folder for the maps alone, gray over the whole image, "
                        "<image_id>.<label>.png: a layer of vindr-det report --maps")
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument("--boxes", help="prediction file, whose boxes of a label are drawn over its map and "
                       "compared with it in agreement.csv")
    boxes.add_argument("--true-boxes", help="the same with truth: COCO .json or VinBigData .csv")
    parser.add_argument("--score", type=float, default=0.3, help="leave --boxes below it out")
    parser.add_argument("--strict", action="store_true", help="exit 1 if any image failed")
    return parser


def _comparison(args: Any) -> Any:
    """What compares maps with the boxes that are given; None without any."""
    from vindr_det.classification.map_agreement import MapComparison
    from vindr_det.data.truth import read_truth
    from vindr_det.exceptions import InputError
    from vindr_det.structures.records import truth_of
    from vindr_det.submission import read_submission

    if args.true_boxes:
        return MapComparison(truth_of(read_truth(args.true_boxes)))
    if not args.boxes:
        return None
    if not 0 <= args.score <= 1:
        raise InputError(f"--score {args.score}: expected 0 to 1")
    boxes = read_submission(args.boxes)
    return MapComparison({image_id: rows[rows.scores >= args.score] for image_id, rows in boxes.items()})


def _labels(args: Any, classifier: Any) -> list[str]:
    from vindr_det.classification.gradcam_sheet import best_labels
    from vindr_det.exceptions import InputError

    unknown = sorted(set(args.labels or ()).difference(classifier.columns))
    if unknown:
        raise InputError(f"--labels {unknown[0]}: expected some of {', '.join(classifier.columns)}")
    return best_labels(args.classifier, classifier.columns, args.best) if args.best else args.labels or []


def _write_sheet(args: Any, explainer: Any, run: Any, labels: Sequence[str]) -> list:
    from vindr_det.classification import gradcam_sheet
    from vindr_det.classification.predict import classify
    from vindr_det.files import write_png

    classifier, statuses = explainer.classifier, None
    right = gradcam_sheet.read_right(args.annotations, classifier) if args.annotations else {}
    if args.predictions:
        predictions = gradcam_sheet.read_predictions(args.predictions, labels)
        predictions = predictions[predictions["image_id"].isin(run.readable)]
    else:
        predictions, statuses = classify(classifier, run, {}, args.workers)
        if predictions.empty:
            return statuses
    rows = gradcam_sheet.most_confident(predictions, labels, args.sheet, right)
    sheet, drawn = gradcam_sheet.draw_sheet(explainer, run, rows, args.workers)
    write_png(Path(args.out) / "sheet.png", sheet)
    return drawn if statuses is None else statuses
