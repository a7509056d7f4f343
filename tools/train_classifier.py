#!/usr/bin/env python
"""Train the companion classifier, P(abnormal), with any timm model, one model a fold.

    python tools/train_classifier.py --config configs/classifier/vindr_binary_effnet_b2.yaml --fold all
    python tools/train_classifier.py --config configs/classifier/vindr_binary_effnet_b2.yaml --fold 0

OUTPUT_DIR gets fold{k}.pth, oof_predictions.csv (every image by the model that did not see it), with
DATA.TEST test_predictions.csv (mean of the models and their spread), metrics.json (with 95 % intervals) and
operating_points.json (thresholds and temperature, chosen out of fold). --resume keeps finished folds.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("--fold", default="all", help="a number, or all")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override the config")
    args = parser.parse_intermixed_args(argv)

    from vindr_det.errors import InputError

    if args.fold != "all" and not args.fold.isdigit():
        raise InputError(f"--fold {args.fold}: expected a number or all")

    from vindr_det.classification.config import load_config

    cfg = load_config(args.config, args.opts)

    from vindr_det.classification.train import train  # seconds; a wrong path should not cost them

    folds = None if args.fold == "all" else [int(args.fold)]
    metrics = train(cfg, folds, args.resume)
    for key in ("auc", *(key for key in metrics if key.startswith("auc/fold"))):
        print(f"{key:12} {'not measurable' if metrics[key] is None else f'{metrics[key]:.4f}'}")


if __name__ == "__main__":
    cli.run(main)
