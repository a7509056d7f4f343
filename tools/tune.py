#!/usr/bin/env python
"""Search post-processing on validation predictions: fusion, thresholds, boxes an image, gate.

    python tools/tune.py --predictions P.csv --annotations instances_val_fold0.json --out tuned.json
    python tools/tune.py --predictions A.csv B.csv --annotations G --oof oof_predictions.csv --out tuned.json
    python tools/fuse.py --inputs A_test.csv B_test.csv --meta test_meta.csv --tuned tuned.json --out F.csv

Half of the images is searched on, with the defaults as the first trial and as many trials for each method of
fusion; the result is held against the defaults on the other half, and the tool says whether it improves on
them. Each report on the same images is counted in tuned.json: after the first they are no longer unseen.
Never give it test images. The trials stand in tuned.trials.csv; a search that is run again resumes with those
in tuned.journal. With --oof the gate is searched too, and gate.py apply takes tuned.json; inverted labels are
refused. Needs pip install 'vindr_det[tune]'.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", nargs="+", required=True, help="submissions, one per model")
    parser.add_argument("--annotations", required=True, help="COCO .json or VinBigData .csv")
    parser.add_argument("--meta", help="image_id,dim0,dim1, where the annotations are a .csv")
    parser.add_argument("--oof", help="a classifier's probabilities out of fold")
    parser.add_argument("--allow-inverted", action="store_true",
                        help="also probabilities that contradict the annotations")
    parser.add_argument("--out", required=True, help="JSON to write")
    parser.add_argument("--trials", type=int, default=200, help="in all, with those of earlier runs")
    parser.add_argument("--workers", type=int, help="processes; default one per core")
    cli.add_seed(parser, what="of the halves and the trials")
    args = parser.parse_args(argv)

    from vindr_det.exceptions import InputError
    from vindr_det.files import require_writable
    from vindr_det.postprocessing.search import Search, tune

    require_writable(args.out)
    if args.trials < 1:
        raise InputError(f"--trials {args.trials}: expected 1 or more")
    search = Search(tuple(args.predictions), args.annotations, args.meta, args.oof, args.seed,
                    args.allow_inverted)
    print(tune(search, Path(args.out), args.trials, args.workers).text())


if __name__ == "__main__":
    cli.run(main)
