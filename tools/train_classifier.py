#!/usr/bin/env python
"""Train the companion classifier, P(abnormal), with any timm model, one model a fold.

    python tools/train_classifier.py --config configs/classifier/vindr_binary_effnet_b2.yaml --fold all
    python tools/train_classifier.py --config configs/classifier/vindr_binary_effnet_b2.yaml --fold 0

OUTPUT_DIR gets fold{k}.pth, oof_predictions.csv (p_abnormal of every held-out image) and metrics.json.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("--fold", default="all", help="a number, or all")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override the config")
    args = parser.parse_intermixed_args(argv)

    from vindr_det.errors import InputError

    if args.fold != "all" and not args.fold.isdigit():
        raise InputError(f"--fold {args.fold}: expected a number or all")

    from vindr_det.classification.config import load_config

    cfg = load_config(args.config, args.opts)

    from vindr_det.classification.train import train  # seconds; a wrong path should not cost them

    folds = None if args.fold == "all" else [int(args.fold)]
    for key, value in train(cfg, folds).items():
        print(f"{key:12} {value:.4f}")


if __name__ == "__main__":
    cli.run(main)
