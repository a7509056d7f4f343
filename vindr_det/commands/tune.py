"""Search post-processing on validation predictions: fusion, thresholds, boxes per image, gate.

    vindr-det tune --predictions P.csv --annotations instances_val_fold0.json --out tuned.json
    vindr-det tune --predictions A.csv B.csv --annotations G --probabilities oof.csv --out tuned.json
    vindr-det fuse --predictions A_test.csv B_test.csv --meta M.csv --tuned tuned.json --out F.csv

Half of the images is searched on, with the defaults as the first trial and as many trials for each method of
fusion; the result is compared with the defaults on the other half, the holdout split, with an interval. Each
report on the same images is counted in tuned.json: after the first they are no longer unseen. Never give it
test images. The trials are in tuned.trials.csv, the search log in tuned.journal; a search that is run again
resumes from it. With --probabilities the gate is searched too, and gate apply takes tuned.json; inverted
labels are refused. Needs pip install optuna.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", nargs="+", required=True, help="submissions, one per model")
    parser.add_argument("--annotations", required=True, help="COCO .json or VinBigData .csv")
    parser.add_argument("--meta", help="image_id,dim0,dim1 of the originals, needed with a .csv")
    parser.add_argument("--probabilities", help="a classifier's out-of-fold P(abnormal)")
    parser.add_argument("--allow-inverted", action="store_true",
                        help="accept probabilities that contradict the annotations")
    parser.add_argument("--out", required=True, help="JSON to write")
    parser.add_argument("--trials", type=int, default=200, help="in all, with those of earlier runs")
    cli.add_workers(parser)
    cli.add_seed(parser, what="of the split and the trials")
    args = parser.parse_args(argv)

    from vindr_det.exceptions import InputError
    from vindr_det.files import require_writable
    from vindr_det.postprocessing.search import tune
    from vindr_det.postprocessing.search_space import Search

    require_writable(args.out)
    if args.trials < 1:
        raise InputError(f"--trials {args.trials}: expected 1 or more")
    search = Search(tuple(args.predictions), args.annotations, args.meta, args.probabilities, args.seed,
                    args.allow_inverted)
    print(f"{tune(search, Path(args.out), args.trials, args.workers).text()}\n{args.out}")
    cli.say_next("fuse", "--predictions", *args.predictions, "--meta", args.meta or "META.csv",
                 "--tuned", args.out, "--out", "fused.csv")
