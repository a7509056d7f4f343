#!/usr/bin/env python
"""Grad-CAM of a classifier: an overlay per label beside each image, as one PNG per image.

    python tools/explain.py --classifier outputs/nih_multilabel_densenet121 --images DIR --out DIR

Maps are of the most probable labels (--top) or of given ones (--labels), the mean over the folds. A map shows
where the evidence for a label is, not the extent of a finding: for boxes use the detector. status.csv has a
row per image that was tried: ok, flagged or failed, and why. Exit status: 0; 1 with --strict if an image
failed; 2 if all did.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--classifier", required=True, help="folder that train_classifier.py wrote")
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files, or one file")
    cli.add_device(parser, "where the classifier runs")
    cli.add_input_options(parser)
    parser.add_argument("--out", required=True, help="folder for <image_id>.png")
    parser.add_argument("--top", type=int, default=3, help="number of labels")
    parser.add_argument("--labels", nargs="+", metavar="P_LABEL",
                        help="labels by their columns, such as p_nodule_mass, instead of --top")
    parser.add_argument("--count", type=int, default=20, help="number of pictures")
    parser.add_argument("--strict", action="store_true", help="exit 1 if any image failed")
    args = parser.parse_args(argv)

    from vindr_det.classification.gradcam import Explainer, draw_all
    from vindr_det.classification.model import find_checkpoints
    from vindr_det.classification.predict import Classifier
    from vindr_det.exceptions import InputError
    from vindr_det.files import make_folder
    from vindr_det.imaging import image_run, status
    from vindr_det.imaging.inputs import require_apart

    for name, value in (("--top", args.top), ("--count", args.count)):
        if value < 1:
            raise InputError(f"{name} {value}: expected 1 or more")
    cli.require_workers(args.workers)
    find_checkpoints(args.classifier)
    run, out = image_run.find(args.images, args.recursive, args.max_pixels), Path(args.out)
    require_apart(run.sources, out)
    statuses = run.statuses_if_none_readable()
    if not statuses:
        classifier = Classifier(args.classifier, device=args.device)
        unknown = sorted(set(args.labels or ()).difference(classifier.columns))
        if unknown:
            raise InputError(f"--labels {unknown[0]}: expected some of {', '.join(classifier.columns)}")
        labels = [classifier.columns.index(name) for name in args.labels or ()]
        statuses = draw_all(Explainer(classifier), run, make_folder(out), labels, args.top, args.count,
                            args.workers)
    table = make_folder(out) / "status.csv"
    status.write_status(table, statuses)
    print(status.summary(statuses))
    status.require_some_read(statuses, table)
    failed = status.warn(statuses, table)
    print(f"{out}: {len(statuses) - failed} pictures; status.csv has a row for each image that was tried")
    return 1 if args.strict and failed else 0


if __name__ == "__main__":
    cli.run(main)
