"""Write a detector's config from the annotations alone, every value with its reason.

    vindr-det plan --annotations datasets/nih/annotations/instances_train.json --out plan.yaml \\
        --val datasets/nih/annotations/instances_val.json --images datasets/nih/images
    vindr-det plan --annotations datasets/nih/annotations/instances_train.json --out plan.yaml \\
        --budget 60 --cores 2

The size of the images, anchors, sampling and the length of the training follow from the boxes and images
(vindr-det describe shows the same numbers); everything else is the recipe's (--base). Without --budget the
config is for a GPU, with it for so many minutes on a CPU. The same annotations give the same config.
"""

from collections.abc import Sequence

from vindr_det import cli
from vindr_det.shipped import CONFIGS


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--annotations", required=True, help="COCO .json of the training images, "
                        "DATA_ROOT/annotations/instances_<name>.json")
    parser.add_argument("--val", help="COCO .json of the validation images; trains without if not given")
    parser.add_argument("--images", help="VINDR.IMAGE_ROOT, where the images are not below DATA_ROOT; their "
                        "sizes are taken into account")
    parser.add_argument("--out", required=True, help="YAML file to write")
    parser.add_argument("--base", help="the recipe; configs/vindr_frcnn.yaml if not given, with --budget "
                        "configs/vindr_frcnn_r18.yaml")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="what the training may take on a CPU")
    parser.add_argument("--cores", type=int, default=1, help="cores that the training has, for --budget")
    args = parser.parse_args(argv)

    from vindr_det.detection.plan import Budget
    from vindr_det.detection.plan_file import write_plan
    from vindr_det.exceptions import InputError
    from vindr_det.files import require_writable

    if args.budget is not None and not 0 < args.budget < float("inf"):
        raise InputError(f"--budget {args.budget:g}: expected minutes, more than 0")
    if args.cores < 1:
        raise InputError(f"--cores {args.cores}: expected at least 1")
    require_writable(args.out)
    budget = None if args.budget is None else Budget(args.budget, args.cores)
    base = args.base or CONFIGS / ("vindr_frcnn.yaml" if budget is None else "vindr_frcnn_r18.yaml")
    print(write_plan(args.out, base, args.annotations, args.val, args.images, budget), end="")
    cli.say_next("train", "--config", args.out)
