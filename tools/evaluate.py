#!/usr/bin/env python
"""Score a submission: the competition's mAP over 15 classes, COCO AP, FROC and kinds of errors over 14.

    python tools/evaluate.py --predictions submission.csv --annotations test_annotations.csv
    python tools/evaluate.py --predictions A.csv --annotations instances_val_fold0.json --bootstrap 1000
    python tools/evaluate.py --predictions A.csv --compare B.csv --annotations G
    python tools/evaluate.py --annotations train.csv --by reader

Annotations are a COCO JSON or a VinBigData table (several readers are fused to their consensus). Intervals
are 95 %, from random halves of the images, for the mean over the classes that have ground truth; "bias" is
what the value is probably too high by, because there are no more images. --compare takes the same images
from both files. --by reader scores the predictions against each reader's boxes alone, or, without
predictions, readers against readers, as the mean over random orders of equal scores; --by size splits COCO
AP by the share of the image that a box covers. --chance adds what the same boxes score when they are dealt
to other images. --out writes metrics.json.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", help="a submission; may be missing with --by reader")
    parser.add_argument("--annotations", required=True, help="COCO .json or VinBigData .csv")
    parser.add_argument("--meta", help="image_id,dim0,dim1 of the images of a .csv: boxes are checked; "
                        "needed for --by size")
    parser.add_argument("--out", help="folder for metrics.json")
    parser.add_argument("--bootstrap", type=int, default=0, metavar="N", help="replicates for intervals")
    parser.add_argument("--compare", metavar="B", help="another submission: differences with intervals")
    parser.add_argument("--by", choices=["reader", "size"], help="split the score")
    parser.add_argument("--confusion", type=float, metavar="SCORE",
                        help="also print which findings are taken for which, of boxes from this score on")
    parser.add_argument("--chance", action="store_true", help="also score boxes of other images")
    cli.add_seed(parser, what="of --chance, --bootstrap and --compare")
    args = parser.parse_args(argv)

    from vindr_det.evaluation import evaluate as evaluation
    from vindr_det.evaluation import score as scoring
    from vindr_det.files import write_json

    request = evaluation.Request(**vars(args))
    metrics, text = evaluation.evaluate(request)
    print(text)
    if args.out:
        write_json(Path(args.out) / "metrics.json", scoring.as_json(metrics))


if __name__ == "__main__":
    cli.run(main)
