"""Train the companion classifier: any timm model, one model per fold.

    vindr-det train-classifier --config configs/classifier/vindr_binary_effnet_b2.yaml --fold all
    vindr-det train-classifier --config configs/classifier/vindr_binary_effnet_b2.yaml --fold 0

It predicts P(abnormal), or with DATA.TARGET a probability per label. OUTPUT_DIR gets fold{k}.pth,
oof_predictions.csv (every image by the model that was not trained on it), with DATA.TEST test_predictions.csv
(mean and standard deviation over the models), metrics.json (with 95 % intervals; its node about describes
each number), operating_points.json (thresholds and calibrations, which classify and predict apply),
fold{k}_history.csv (a row per epoch), results.csv of all folds, and pictures: results.png, roc.png,
reliability.png, frequencies.png, and of each fold a batch and the misclassified images.
The epoch is the last, or with SOLVER.SELECT inner the best on images set aside, never on those of the
held-out fold. --resume keeps finished folds and chooses operating points again. --num-gpus trains one fold on
each GPU, or each fold on all of them (--parallel ddp).
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("--fold", default="all", help="number of a fold, or all")
    parser.add_argument("--resume", action="store_true",
                        help="keep finished folds and resume an interrupted one")
    cli.add_device(parser, "where to train, instead of the config's DEVICE", default=None)
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs, or processes where DEVICE is cpu")
    parser.add_argument("--parallel", type=str, choices=["folds", "ddp"], default="",
                        help="with several GPUs: a fold on each (where there are several folds), or each "
                        "fold's steps shared by all")
    parser.add_argument("opts", type=str, nargs="*", metavar="KEY VALUE", help="override the config")
    args = parser.parse_intermixed_args(argv)

    from vindr_det.exceptions import InputError

    if args.fold != "all" and not args.fold.isdigit():
        raise InputError(f"--fold {args.fold}: expected a number or all")

    from vindr_det.classification.config import load_config

    device = ["DEVICE", args.device] if args.device else []
    cfg = load_config(args.config, [*args.opts, *device])

    from vindr_det.classification.train import train  # seconds; a wrong path should not cost them

    folds = None if args.fold == "all" else [int(args.fold)]
    metrics = train(cfg, folds, args.resume, args.num_gpus, args.parallel)
    names = ("fold", "min", "max", "mean", "median")
    for key in ("auc", *(key for key in metrics if key.startswith(tuple(f"auc/{name}" for name in names)))):
        print(f"{key:12} {'not measurable' if metrics[key] is None else f'{metrics[key]:.4f}'}")
    print(f"{cfg.OUTPUT_DIR}: the models, their predictions, metrics.json, results.csv and pictures")
    cli.say_next("classify", "--classifier", cfg.OUTPUT_DIR, "--images", "IMAGES", "--out",
                 Path(cfg.OUTPUT_DIR) / "probabilities.csv")
