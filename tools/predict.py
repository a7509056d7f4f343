#!/usr/bin/env python
"""Images to a checked submission.

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
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vindr_det import cli

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "vindr_frcnn.yaml"


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", required=True, help="submission to write")
    parser.add_argument("--config", default=str(CONFIG), help="whose best weights and test images")
    parser.add_argument("--weights", nargs="+", help="checkpoints; several are fused by WBF")
    parser.add_argument("--engine", choices=["auto", "detectron2", "torchvision"], default="auto",
                        help="refuse weights of the other engine")
    parser.add_argument("--images", help="folder of DICOM, PNG or JPEG files")
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
    args = parser.parse_args(argv)

    from vindr_det import gate_fit, pipeline, submission
    from vindr_det.detection.engine import best_device
    from vindr_det.errors import InputError
    from vindr_det.files import require_writable
    from vindr_det.fusion import Fusion
    from vindr_det.in_sample import refuse_in_sample

    require_writable(args.out)
    batch = (8 if best_device() == "cuda" else 1) if args.batch_size is None else args.batch_size
    if batch < 1:
        raise InputError(f"--batch-size {batch}: expected 1 or more")
    gate = gate_fit.read(args.gate).gate if args.gate else None
    if gate and gate.form != "none" and not args.classifier:
        raise InputError(f"--gate {args.gate}: a gate of form {gate.form} expects --classifier")
    weights = args.weights or [pipeline.best_weights(args.config)]
    images = args.images or pipeline.test_images(weights[0])
    engine = None if args.engine == "auto" else args.engine
    predictors = pipeline.load_predictors(weights, engine, args.half)
    if args.tta or args.tta_scales:
        from vindr_det.detection.tta import Augmented

        predictors = [Augmented(predictor, args.tta_scales or (1.0,)) for predictor in predictors]
    classifier = None
    if args.classifier:
        from vindr_det.classification.model import Classifier

        classifier = Classifier(args.classifier)
    guard = partial(refuse_in_sample, args.gate) if args.gate and not args.allow_in_sample else None
    result = pipeline.predict_folder(images, predictors, meta=args.meta, classifier=classifier, gate=gate,
                                     fusion=Fusion(iou_thr=args.iou_thr), batch=batch,
                                     check_ids=guard, allow_inverted=args.allow_inverted)
    submission.write_submission(args.out, result.predictions, sizes=result.sizes)
    for image_id, reason in result.failed.items():
        print(f"unreadable, says no finding: {image_id}: {reason}")
    boxes = sum(len(p.findings()) for p in result.predictions.values())
    print(f"{args.out}: {len(result.predictions)} images, {boxes} boxes, {len(result.failed)} "
          "unreadable; checked")


if __name__ == "__main__":
    cli.run(main)
