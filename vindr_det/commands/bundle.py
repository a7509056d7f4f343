"""Detectors, classifier, gate and fusion in one folder or file, with a model card; or a copy of a bundle.

    vindr-det bundle --weights outputs/vindr_frcnn/model_best.pth --out my.bundle
    vindr-det bundle --weights A.pth B.pth --classifier outputs/classifier --gate gate.json \\
        --metrics metrics.json --half --out my.bundle.zip
    vindr-det bundle --copy my.bundle --out hf://user/repo
    vindr-det bundle --copy hf://user/repo --out my.bundle

vindr-det predict --bundle my.bundle then needs nothing else. Weights are safetensors, all else is YAML and
JSON: no file executes anything when it is read. README.md is the model card, with the figures of --metrics,
and bundle.json has the SHA-256 of each file. --half stores weights in half the space. --copy compares all
files with their hashes, and pushes to a Hugging Face hub, pulls from it, packs or unpacks; HF_ENDPOINT and
HF_TOKEN are the settings of the hub's library. A gate's file lists the ids of the images that it was fitted
on: look at them before you give a bundle to others.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", nargs="+", help="checkpoints of the detectors")
    source.add_argument("--copy", metavar="BUNDLE", help="a folder, a .zip file, hf://user/repo, or "
                        "the name of a bundle that ships with the package")
    parser.add_argument("--out", required=True, help="a new folder, a .zip file, or hf://user/repo")
    parser.add_argument("--classifier", help="folder that vindr-det train-classifier wrote")
    parser.add_argument("--gate", help="JSON of vindr-det gate fit")
    parser.add_argument("--tuned", help="JSON of vindr-det tune: its fusion, and its gate where there is no "
                        "--gate")
    parser.add_argument("--metrics", nargs="+", default=[],
                        help="metrics.json of vindr-det evaluate, for the card")
    parser.add_argument("--half", action="store_true", help="store weights in half precision")
    parser.add_argument("--title", type=str, default="", help="of the card")
    parser.add_argument("--data", type=str, default="",
                        help="what the card says of the images that the models learned from")
    parser.add_argument("--license", type=str, default="", help="of the weights, such as cc-by-nc-4.0")
    parser.add_argument("--notice", type=str, default="",
                        help="is said at every use, such as what the models must not be used for")
    parser.add_argument("--public", action="store_true",
                        help="a repository that is new on the hub can be read by all")
    args = parser.parse_args(argv)

    from vindr_det.bundle import CardFacts, Parts, copy_bundle, write_bundle

    if args.copy:
        _require_copy_alone(args)
        print(f"{args.out}: {len(copy_bundle(args.copy, args.out, args.public))} files, all as their hashes")
        _say_next(args)
        return
    parts = Parts(args.weights, args.classifier, args.gate, args.tuned, args.metrics)
    facts = CardFacts(args.title, args.data, args.license, args.notice)
    bundle = write_bundle(args.out, parts, args.half, facts, args.public)
    count = len(bundle.models.predictors)
    print(f"{args.out}: {count} detector{'s' * (count > 1)} of {bundle.label_set.name}, SHA-256 "
          f"{bundle.digest[:12]}")
    _say_next(args)


def _say_next(args) -> None:
    cli.say_next("predict", "--bundle", args.out, "--images", "IMAGES", "--out", "submission.csv")


def _require_copy_alone(args) -> None:
    """Refuse options that would change a bundle that is copied as it is."""
    from vindr_det.exceptions import InputError

    kept = {"copy", "out", "public"}
    if given := [name for name, value in vars(args).items() if value and name not in kept]:
        raise InputError(f"--copy {args.copy} with --{given[0]}: a copy is as its source, expected --out "
                         f"alone")
