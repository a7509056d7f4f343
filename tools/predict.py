#!/usr/bin/env python
"""Images to a checked submission, and to tables that say what was read and what was found.

    python tools/predict.py --out submission.csv
    python tools/predict.py --weights outputs/vindr_frcnn/model_best.pth --images DIR --out S.csv
    python tools/predict.py --weights A.pth B.pth --classifier outputs/classifier --images DIR --out S.csv
    python tools/predict.py --weights A.pth --classifier outputs/classifier --gate gate.json --images DIR \\
        --out S.csv

A checkpoint carries its config, classes and engine, so --weights is enough; several are fused.
Without --weights the best weights of --config are taken (default: the mission's), without --images
those of its DATASETS.TEST. --gate refuses images that it was fitted on, --classifier one whose labels are
inverted, as the boxes tell. Boxes are in the originals' pixels: for images that were made smaller,
--meta (or meta.csv beside them) tells the original sizes.

Beside S.csv stand S.predictions.csv (one row per box, with the DICOM's UIDs) and S.status.csv (one row per
input: ok, flagged or failed, and why). Nothing is known about an image that failed. Kaggle wants a row of it
all the same, and S.csv's says "no finding": use S.csv for Kaggle alone. With --strict S.csv is not written
then. Exit status: 0; 1 with --strict if an image failed; 2 if all did.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "vindr_frcnn.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)

    from vindr_det import predict as pipeline
    from vindr_det.data.in_sample import refuse_in_sample
    from vindr_det.exceptions import InputError
    from vindr_det.files import existing_file
    from vindr_det.imaging import status
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.postprocessing import gate_fit
    from vindr_det.postprocessing.fusion import Fusion
    from vindr_det.submission.tables import require_all_writable, written
    from vindr_det.training.device import best_device

    require_all_writable(args.out)
    cli.require_workers(args.workers)
    batch = (8 if best_device() == "cuda" else 1) if args.batch_size is None else args.batch_size
    if batch < 1:
        raise InputError(f"--batch-size {batch}: expected 1 or more")
    gate = gate_fit.read(args.gate).gate if args.gate else None
    if gate and gate.form != "none" and not args.classifier:
        raise InputError(f"--gate {args.gate}: a gate of form {gate.form} expects --classifier")
    weights = [existing_file(path) for path in args.weights or [pipeline.best_weights(args.config)]]
    # Before anything slow: is there something to do?
    run = pipeline.find_images(args.images or pipeline.test_images(weights[0]), args.meta, args.recursive,
                               args.max_pixels)
    read = [*run.sources, *weights, *(path for path in (args.meta, args.gate) if path)]
    require_apart(read, *written(args.out))
    if none := run.statuses_if_none_readable():
        return _finish(args, pipeline.FolderPredictions(statuses=none))
    if args.gate and not args.allow_in_sample:
        refuse_in_sample(args.gate, run.readable)
    predictors = pipeline.load_predictors(weights, None if args.engine == "auto" else args.engine, args.half)
    if args.tta or args.tta_scales:
        from vindr_det.postprocessing.tta import TTAPredictor

        predictors = [TTAPredictor(predictor, args.tta_scales or (1.0,)) for predictor in predictors]
    classifier = None
    if args.classifier:
        from vindr_det.classification.predict import Classifier

        classifier = Classifier(args.classifier)
    result = pipeline.predict(run, predictors, classifier=classifier, gate=gate,
                              fusion=Fusion(iou_thr=args.iou_thr), batch=batch, workers=args.workers,
                              allow_inverted=args.allow_inverted)
    print(status.summary(result.statuses))
    return _finish(args, result)


def _parser():
    parser = cli.parser(__doc__)
    parser.add_argument("--out", required=True, help="submission to write")
    parser.add_argument("--config", default=str(CONFIG), help="whose best weights and test images")
    parser.add_argument("--weights", nargs="+", help="checkpoints; several are fused by WBF")
    parser.add_argument("--engine", choices=["auto", "detectron2", "torchvision"], default="auto",
                        help="refuse weights of the other engine")
    parser.add_argument("--images", help="folder of DICOM, PNG or JPEG files, or one file")
    cli.add_input_options(parser)
    parser.add_argument("--meta", help="image_id,dim0,dim1 of the originals")
    parser.add_argument("--classifier", help="folder that train_classifier.py wrote")
    parser.add_argument("--gate", help="JSON of gate.py fit; default: the classifier's word is appended")
    parser.add_argument("--allow-in-sample", action="store_true",
                        help="also images that --gate was fitted on")
    parser.add_argument("--allow-inverted", action="store_true",
                        help="also a classifier that contradicts the boxes")
    parser.add_argument("--iou-thr", type=float, default=0.4, help="of the fusion")
    parser.add_argument("--tta", action="store_true", help="look at each image mirrored too")
    parser.add_argument("--tta-scales", type=float, nargs="+", metavar="F",
                        help="look at these factors of the test size, mirrored too")
    parser.add_argument("--batch-size", type=int, help="images at once; default 8 on a GPU, else 1")
    parser.add_argument("--half", action="store_true", help="compute in half precision (a GPU)")
    parser.add_argument("--strict", action="store_true",
                        help="if any image failed, write the tables alone and exit 1")
    return parser


def _finish(args: Namespace, result) -> int:
    """Write all tables, or none; an S.csv of an earlier run does not stay beside those of this one."""
    from vindr_det.imaging import status
    from vindr_det.submission import submission_text
    from vindr_det.submission.tables import predictions_path, write_results

    table, strict = status.status_path(args.out), bool(result.failed) and args.strict
    ids = [one.image_id for one in result.statuses]
    text = None if strict or not result.predictions else submission_text(
        args.out, result.predictions, ids, result.sizes, result.failed)
    write_results(args.out, result.predictions, result.statuses, text)
    status.require_some_read(result.statuses, table)
    failed = status.warn(result.statuses, table)
    tables = f"{predictions_path(args.out)} and {table}"
    if strict:
        print(f"{args.out}: not written (--strict), since {failed} of {len(ids)} images were not read; "
              f"{tables} are")
        return 1
    boxes = sum(len(p.findings()) for p in result.predictions.values())
    unread = f"; {failed} were NOT READ and say no finding for Kaggle's sake" if failed else ""
    print(f"{args.out}: {len(ids)} images, {boxes} boxes, checked{unread}\n"
          f"{tables} tell what was read and found")
    return 0


if __name__ == "__main__":
    cli.run(main)
