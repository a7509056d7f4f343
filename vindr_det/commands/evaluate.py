"""Score predictions: PASCAL VOC mAP (the competition's for VinBigData's 15 classes), COCO AP, FROC,
localization accuracy and TIDE errors over the findings.

    vindr-det evaluate --predictions submission.csv --annotations test_annotations.csv
    vindr-det evaluate --predictions A.csv --annotations instances_val_fold0.json --bootstrap 1000
    vindr-det evaluate --predictions A.csv --compare B.csv --annotations G
    vindr-det evaluate --predictions A.csv --annotations G --frame 256
    vindr-det evaluate --predictions A.csv --annotations nih.json --patients images.csv --bootstrap 1000
    vindr-det evaluate --predictions submission.csv --annotations nih.json --map-labels
    vindr-det evaluate --annotations train.csv --by reader

Annotations are a COCO JSON of any label set or a VinBigData table (several readers are fused to their
consensus). An image is left out for the findings that its annotations leave unknown. --map-labels scores
predictions of another label set over the findings that both sets have; findings of one set that are a single
one of the other are joined, in the predictions and in the truth. Intervals are 95 %, from random halves of
the images (with --patients of the patients), for the mean over the classes that have ground truth; "bias" is
how much too high the value probably is because the images are few. --compare takes the same images from both
files. --by reader scores the predictions against each reader's boxes alone, or, without predictions, readers
against readers, as the mean over random orders of equal scores; --by size splits COCO AP by the share of the
image that a box covers. --chance adds a permutation baseline: the same boxes, shuffled across images. --out
writes metrics.json and, of a single file, pr_curve.png and confusion_matrix.png (boxes from a score of .25,
or of --confusion, on).
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    run(args, print)
    if args.out:
        written = sorted(path.name for path in Path(args.out).glob("*.*"))
        print(f"{args.out}: {', '.join(written)}", file=sys.stderr)
    if args.predictions and not args.compare:
        cli.say_next("visualize", "--images", "IMAGES", "--predictions", args.predictions, "--annotations",
                     args.annotations, "--out", Path(args.out or "outputs") / "pictures")


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options of the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", help="prediction file; optional with --by reader")
    parser.add_argument("--annotations", required=True, help="truth: COCO .json or VinBigData .csv")
    parser.add_argument("--meta", help="original sizes (image_id,dim0,dim1) of a .csv's images: boxes "
                        "are checked; needed for --by size")
    parser.add_argument("--out", help="folder for metrics.json, pr_curve.png and confusion_matrix.png")
    parser.add_argument("--bootstrap", type=int, default=0, metavar="N",
                        help="bootstrap replicates for intervals; 0 for no intervals")
    parser.add_argument("--compare", metavar="B",
                        help="another prediction file: paired differences with intervals")
    parser.add_argument("--by", choices=["reader", "size"], help="score per reader, or COCO AP per box size")
    parser.add_argument("--frame", type=int, metavar="SIDE", help="also COCO's numbers by size, and over IoU "
                        ".40:.95, in a copy of the images that is square with this side, such as 256")
    parser.add_argument("--confusion", type=float, metavar="SCORE",
                        help="also print the confusion matrix of boxes from this score on")
    parser.add_argument("--chance", action="store_true", help="also score boxes shuffled across images")
    parser.add_argument("--patients", metavar="TABLE", help="table with image_id and patient: intervals draw "
                        "whole patients; single images if not given")
    parser.add_argument("--map-labels", type=str, nargs="?", const="", metavar="SET",
                        help="score predictions of another label set over the findings that it and the "
                        "annotations' have in common; SET names it where the file does not (COCO results "
                        "of other tools)")
    cli.add_seed(parser, what="of random orders, replicates and shuffling")
    return parser.parse_args(argv)


def run(args: Namespace, show: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Score, and write metrics.json where --out asks for it.

    Args:
        args: of :func:`parse`.
        show: is called with the metrics as text.

    Returns:
        Metrics by key, NaN where there is nothing to measure.

    Raises:
        InputError: bad input.
    """
    from vindr_det.evaluation.evaluate import EvaluationRequest, run_evaluation
    from vindr_det.evaluation.score import as_json
    from vindr_det.files import write_json

    values, text = run_evaluation(EvaluationRequest(**vars(args)))
    show(text)
    if args.out:
        write_json(Path(args.out) / "metrics.json", as_json(values))
    return values
