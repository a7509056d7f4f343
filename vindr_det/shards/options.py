"""The options of ``vindr-det predict`` that share a run among processes: --shard, --resume and --dask."""

import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from vindr_det import __version__
from vindr_det.dask_cluster import dask_runner
from vindr_det.imaging.image_run import ImageRun
from vindr_det.imaging.status import beside
from vindr_det.prediction import Models
from vindr_det.shards.parts import Parts, digest, predict_part
from vindr_det.shards.share import TORCHRUN, device_of_rank, shard_of

_OF_MODELS = ("engine", "device", "half", "backend", "tta", "tta_scales", "iou_thr", "opts", "config")


def parts_of(args: Namespace, bundle: str, weights: Sequence[Path], batch: int) -> Parts | None:
    """The parts beside --out, with all that decides what is predicted; None where no option asks for them.

    Args:
        args: of the command.
        bundle: its digest; empty without one.
        weights: of the detectors; empty with a bundle.
        batch: images per call of a detector.
    """
    if not (args.shard or args.resume or args.dask):
        return None
    return Parts(beside(args.out, "parts").with_suffix(""), {
        "vindr_det": __version__, "bundle": bundle, "weights": list(map(digest, weights)),
        "classifier": digest(args.classifier or ""), "gate": digest(args.gate or ""), "batch size": batch,
        **{name: getattr(args, name) for name in (*_OF_MODELS[2:-1], "max_pixels")}})


def predict_shard(
    args: Namespace, parts: Parts, images: ImageRun, load: Callable[[], Models], batch: int
) -> None:
    """Predict what is missing of the share of --shard, and print where it is.

    Args:
        args: of the command.
        parts: of :func:`parts_of`.
        images: of the whole run.
        load: the models, on the device of ``args``.
        batch: images per call of a detector.
    """
    if args.shard == TORCHRUN:
        args.device = device_of_rank(args.device)
    part = parts.predict_shard(images, shard_of(args.shard), load, batch, args.workers)
    print(f"{part}: a part; the same command with --resume instead of --shard {args.shard} takes all parts, "
          f"predicts what is missing, and writes {args.out}")


def predict_on_dask(
    args: Namespace, parts: Parts, images: ImageRun, weights: Sequence[Path], batch: int,
    load: Callable[[str], Models],
) -> None:
    """Predict what is missing on the cluster of --dask.

    Args:
        args: of the command.
        parts: of :func:`parts_of`.
        images: of the run.
        weights: as there, like ``batch``.
        batch: likewise.
        load: the models by the options as JSON, in which all paths are absolute; importable.

    Raises:
        InputError: the cluster does not answer, or has lost its workers.
    """
    options = {name: getattr(args, name) for name in _OF_MODELS}
    paths = {name: getattr(args, name) for name in ("bundle", "classifier", "gate")}
    paths = {name: str(Path(path).absolute()) if path and Path(path).exists() else path  # hf://, phantom
             for name, path in paths.items()}
    text = json.dumps({**options, **paths, "weights": [str(path.absolute()) for path in weights]})
    with dask_runner(args.dask) as runner:
        parts.predict_on(runner, images, partial(predict_part, load=partial(load, text), batch=batch), batch)
