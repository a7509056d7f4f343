#!/usr/bin/env python
"""Where a classifier looks: an overlay per label beside each image, as one PNG per image.

    python tools/explain.py --model outputs/nih_multilabel_densenet121 --images DIR --out DIR

Grad-CAM of the likeliest labels (--top, or --labels by name), mean over the folds. A map shows where a score
comes from, not where a finding ends: boxes are the detector's. status.csv has a row per image that was tried:
ok, flagged or failed, and why. Exit status: 0; 1 with --strict if an image failed; 2 if all did.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", required=True, help="folder that train_classifier.py wrote")
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files, or one file")
    cli.add_input_options(parser)
    parser.add_argument("--out", required=True, help="folder for <image_id>.png")
    parser.add_argument("--top", type=int, default=3, help="how many labels")
    parser.add_argument("--labels", nargs="+", metavar="P_LABEL", help="these columns instead")
    parser.add_argument("--count", type=int, default=20, help="how many pictures")
    parser.add_argument("--strict", action="store_true", help="exit 1 if any image failed")
    args = parser.parse_args(argv)

    from vindr_det.classification.gradcam import Explainer, draw_all
    from vindr_det.classification.model import Classifier, checkpoints
    from vindr_det.exceptions import InputError
    from vindr_det.files import make_folder
    from vindr_det.imaging import image_run, status
    from vindr_det.imaging.inputs import require_apart

    for name, value in (("--top", args.top), ("--count", args.count)):
        if value < 1:
            raise InputError(f"{name} {value}: expected 1 or more")
    cli.require_workers(args.workers)
    checkpoints(args.model)
    run, out = image_run.find(args.images, args.recursive, args.max_pixels), Path(args.out)
    require_apart(run.sources, out)
    statuses = run.statuses_if_none_readable()
    if not statuses:
        classifier = Classifier(args.model)
        unknown = sorted(set(args.labels or ()).difference(classifier.columns))
        if unknown:
            raise InputError(f"--labels {unknown[0]}: expected some of {', '.join(classifier.columns)}")
        chosen = [classifier.columns.index(name) for name in args.labels or ()]
        statuses = draw_all(Explainer(classifier), run, make_folder(out), chosen, args.top, args.count,
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
