"""Make synthetic chest X-rays in VinBigData's layout: DICOMs, readers' boxes, tables.

    vindr-det phantoms --out outputs/phantoms --num-train 300 --num-test 100 --size 512

The same --seed gives the same bytes. Phantoms are for teaching and tests; scores on them do not hold
for patients.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--num-train", type=int, default=300, help="training images, with readers' boxes")
    parser.add_argument("--num-test", type=int, default=100, help="test images, with their true boxes")
    parser.add_argument("--size", type=int, default=512, help="longest side in pixels")
    cli.add_seed(parser)
    cli.add_workers(parser)
    args = parser.parse_args(argv)

    from vindr_det.phantom import make_dataset

    make_dataset(args.out, args.num_train, args.num_test, args.size, args.seed, args.workers)
    print(f"{args.num_train} training and {args.num_test} test phantoms in {args.out}")
    cli.say_next("prepare", "--images", Path(args.out) / "train", "--out", Path(args.out) / "prepared/train")
