"""Train a detector, with Detectron2 where it is installed, else with torchvision.

    vindr-det train --config configs/vindr_frcnn.yaml
    vindr-det train --config configs/vindr_frcnn.yaml --num-gpus 4 SOLVER.IMS_PER_BATCH 16
    vindr-det train --config configs/vindr_frcnn.yaml --num-gpus 4 --num-machines 2 \\
        --machine-rank 0 --dist-url tcp://machine-0:29500    # and rank 1 on the other
    vindr-det train --config configs/vindr_frcnn.yaml --resume
    vindr-det train --config configs/vindr_frcnn.yaml --eval-only MODEL.WEIGHTS model_best.pth

OUTPUT_DIR gets config.yaml, metrics.json (a JSON object per line), results.csv and results.png of it,
model_best.pth, model_final.pth, best_predictions.json with pr_curve.png, confusion_matrix.png and
val_predictions.png, train_batch0.png, and what VINDR.LOGGERS write. Any key of the config can be given as KEY
VALUE at the end.
"""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    result = run(parse(argv))
    if isinstance(result, Path):
        print(f"trained: {result}")
        _say_next(result)
        return
    for key, value in result.items():
        print(f"{key:40} {value:.4f}")


def _say_next(model: Path) -> None:
    """Where the pictures and the numbers are, and the commands for the validation images and for others."""
    import yaml

    from vindr_det.data.splits import resolve
    from vindr_det.training.states import BEST_PREDICTIONS

    out = model.parent
    if not (out / "config.yaml").is_file():  # it is on the first of several machines
        return
    node = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))["VINDR"]
    shown = [path.name for path in sorted(out.iterdir()) if path.suffix in (".png", ".csv")]
    print(f"{out}: {', '.join(shown)}", file=sys.stderr)
    if (out / BEST_PREDICTIONS).is_file() and len(node["VALIDATION"]) == 1:
        annotations = resolve(node["VALIDATION"][0], node["DATA_ROOT"]).annotations
        cli.say_next("evaluate", "--predictions", out / BEST_PREDICTIONS, "--annotations", annotations,
                     "--out", out / "evaluation")
    images = Path(node["DATA_ROOT"]) / "test"
    cli.say_next("predict", "--weights", model, "--images", images if images.is_dir() else "IMAGES",
                 "--out", out / "submission.csv")


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options of the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--config", "--config-file", required=True, help="the detector's YAML")
    parser.add_argument("--engine", choices=["auto", "detectron2", "torchvision"],
                        help="instead of the config's VINDR.ENGINE")
    cli.add_device(parser, "where to train, instead of the config's MODEL.DEVICE", default=None)
    parser.add_argument("--num-gpus", type=int, default=1,
                        help="GPUs per machine, or processes per machine with --device cpu")
    parser.add_argument("--num-machines", type=int, default=1, help="machines that train together")
    parser.add_argument("--machine-rank", type=int, default=0, help="of this machine, from 0")
    parser.add_argument("--dist-url", default="auto",
                        help="tcp://host:port of machine 0; auto for a single machine")
    parser.add_argument("--resume", action="store_true", help="resume from the last state in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="only score MODEL.WEIGHTS")
    parser.add_argument("opts", type=str, nargs="*", metavar="KEY VALUE", help="override keys of the config")
    return parser.parse_intermixed_args(argv)


def run(args: Namespace) -> Path | Mapping[str, float]:
    """Train, or with --eval-only score.

    Args:
        args: of :func:`parse`.

    Returns:
        The checkpoint, model_best.pth or else model_final.pth; with --eval-only metrics by key.

    Raises:
        InputError: bad input.
    """
    from vindr_det.config import requested_engine
    from vindr_det.detection import engine as engines
    from vindr_det.detection.interface import Launch
    from vindr_det.detection.loading import load_config
    from vindr_det.exceptions import InputError

    launch = Launch(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)
    opts = [*args.opts, "MODEL.DEVICE", args.device] if args.device else args.opts
    name = engines.choose(args.engine or requested_engine(args.config, opts))
    cfg = load_config(args.config, name, opts, launch.processes)
    engines.check_device(cfg, launch)
    engine, out = engines.load(name), Path(cfg.OUTPUT_DIR)
    if args.eval_only:
        from vindr_det.config_schema import label_set_of_config
        from vindr_det.detection.loading import load_checkpoint

        if launch.processes * launch.machines > 1:
            raise InputError("--eval-only: runs in one process, expected --num-gpus 1 --num-machines 1")
        if not cfg.MODEL.WEIGHTS:
            raise InputError("--eval-only: MODEL.WEIGHTS is empty, expected a checkpoint to score")
        state = load_checkpoint(cfg.MODEL.WEIGHTS, name, label_set_of_config(cfg)).state
        return engine.evaluate(cfg, state)
    engine.train(cfg, args.resume, launch)
    return next(path for path in (out / "model_best.pth", out / "model_final.pth") if path.is_file())
