"""Train a detector, with Detectron2 where it is installed, else with torchvision.

    vindr-det train --config configs/vindr_frcnn.yaml
    vindr-det train --config configs/vindr_frcnn.yaml --num-gpus 4 SOLVER.IMS_PER_BATCH 16
    vindr-det train --config configs/vindr_frcnn.yaml --num-gpus 4 --num-machines 2 \\
        --machine-rank 0 --dist-url tcp://machine-0:29500    # and rank 1 on the other
    vindr-det train --config configs/vindr_frcnn.yaml --resume
    vindr-det train --config configs/vindr_frcnn.yaml --eval-only MODEL.WEIGHTS model_best.pth

OUTPUT_DIR gets config.yaml, metrics.json (a JSON object per line), curves.png of it, model_best.pth,
model_final.pth and TensorBoard events. Any key of the config can be given as KEY VALUE at the end.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from vindr_det import cli
from vindr_det.config_schema import ENGINES
from vindr_det.detection.interface import Launch


def main(argv: Sequence[str] | None = None) -> None:
    result = run(parse(argv))
    if isinstance(result, Path):
        print(f"trained: {result}")
        return
    for key, value in result.items():
        print(f"{key:40} {value:.4f}")


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options of the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--config", "--config-file", required=True, help="the detector's YAML")
    parser.add_argument("--engine", choices=["auto", *ENGINES], help="instead of the config's VINDR.ENGINE")
    cli.add_device(parser, "where to train, instead of the config's MODEL.DEVICE", default=None)
    parser.add_argument("--num-gpus", type=int, default=1,
                        help="GPUs per machine, or processes per machine with --device cpu")
    parser.add_argument("--num-machines", type=int, default=1, help="machines that train together")
    parser.add_argument("--machine-rank", type=int, default=0, help="of this machine, from 0")
    parser.add_argument("--dist-url", default="auto",
                        help="tcp://host:port of machine 0; auto for a single machine")
    parser.add_argument("--resume", action="store_true", help="resume from the last state in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="only score MODEL.WEIGHTS")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override keys of the config")
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
