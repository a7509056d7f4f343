"""The commands as functions of the same names, with their options as keywords.

Options go through the command's own parser, so that they have its defaults, its checks and its messages:
``num_gpus=4`` is ``--num-gpus 4``, ``resume=True`` is ``--resume``, a list has several values, None and False
leave the option out. ``overrides`` are the KEY VALUE at the end of a command line, as a mapping or in turn.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vindr_det.commands import module_of, run_command
from vindr_det.exceptions import InputError
from vindr_det.files import expanded, require_path

if TYPE_CHECKING:
    from vindr_det.prediction import FolderPredictions
    from vindr_det.structures.detections import Predictions

log = logging.getLogger(__name__)

#: KEY VALUE of a config.
Overrides = Mapping[str, Any] | Sequence[Any]


def run(command: str, *words: str, overrides: Overrides = (), **options: Any) -> int:
    """Run any command; returns its exit status.

    Args:
        command: one that ``vindr-det --help`` lists.
        words: what follows it without dashes, such as ``fit`` after ``gate``.
        overrides: KEY VALUE of a config.
        options: of the command.

    Raises:
        InputError: no such command, or bad input, in the line that the command prints.
    """
    return run_command(command, arguments(words, overrides, options))


def train(config: str | Path, *, overrides: Overrides = (), **options: Any) -> Path | Mapping[str, float]:
    """Train a detector as ``vindr-det train``; returns its checkpoint, which :func:`vindr_det.load` takes.

    Args:
        config: the detector's YAML.
        overrides: KEY VALUE of the config.
        options: of the command. With ``eval_only=True`` metrics by key are returned.

    Raises:
        InputError: bad input.
    """
    return _called("train", (), overrides, {"config": config, **options})


def predict(
    images: str | Path | Sequence[str | Path] | None, out: str | Path, *, overrides: Overrides = (),
    **options: Any,
) -> "FolderPredictions":
    """Predict images and write the tables of ``vindr-det predict``.

    Images are read in processes of their own, so that a script that calls this needs the usual
    ``if __name__ == "__main__":``.

    Args:
        images: folder or file; a list of these, of whose first images pictures are drawn, as by the command;
            None takes those of the config. Arrays are for :meth:`vindr_det.Model.predict`.
        out: the submission to write.
        overrides: KEY VALUE of the checkpoint's config.
        options: of the command, such as ``weights``, ``classifier`` and ``gate``.

    Returns:
        Predictions after the gate, sizes, and the status of each input. With ``strict=True`` no submission is
        written where an image ``failed``.

    Raises:
        InputError: bad input.
    """
    several = [*map(_image_path, images)] if isinstance(images, list | tuple) else []
    if isinstance(images, list | tuple) and not several:
        raise InputError("images is an empty list, expected paths of images or folders")
    named = {} if several or images is None else {"images": _image_path(images)}
    return _called("predict", several, overrides, {**named, "out": out, **options})


def _image_path(image: Any) -> str:
    require_path(image, "a folder of images, or an image")
    if not isinstance(image, str | Path):
        raise InputError(f"images of type {type(image).__name__}, expected a path, or a list of paths; "
                         "the predict of a loaded model takes arrays")
    return str(expanded(image))


def evaluate(predictions: str | Path | None, annotations: str | Path, **options: Any) -> dict[str, Any]:
    """Score predictions as ``vindr-det evaluate``.

    Args:
        predictions: the file; None with ``by="reader"`` alone.
        annotations: the truth, COCO JSON or VinBigData's table.
        options: of the command, such as ``bootstrap``; with ``out`` metrics.json is written.

    Returns:
        Metrics by key, NaN where there is nothing to measure.

    Raises:
        InputError: bad input.
    """
    return _called("evaluate", (), (), {"predictions": predictions, "annotations": annotations, **options})


def convert(format: str, out: str | Path, **options: Any) -> Path:
    """Convert a published data set as ``vindr-det convert``; returns ``out``, the folder with its files.

    Args:
        format: one that ``vindr-det convert --help`` lists.
        out: the folder.
        options: of the format, such as ``annotations``.

    Raises:
        InputError: bad input.
    """
    log.info("%s", _called("convert", (format,), (), {"out": out, **options}))
    return Path(out)


def fuse(
    predictions: Sequence[str | Path], out: str | Path, meta: str | Path, **options: Any
) -> "dict[str, Predictions]":
    """Fuse prediction files as ``vindr-det fuse``; returns image id -> detections in original pixels.

    Args:
        predictions: files, one per model.
        out: the file to write.
        meta: table of the originals' sizes.
        options: of the command.

    Raises:
        InputError: bad input.
    """
    fused, _ = _called("fuse", (), (), {"predictions": predictions, "out": out, "meta": meta, **options})
    return fused


def _called(command: str, words: Sequence[str], overrides: Overrides, options: Mapping[str, Any]) -> Any:
    """What the ``run`` of a command's module returns."""
    module = import_module(module_of(command))
    return module.run(module.parse(arguments(words, overrides, options)))


def arguments(words: Sequence[str], overrides: Overrides, options: Mapping[str, Any]) -> list[str]:
    """A command line of Python's values.

    Args:
        words: what follows the command without dashes.
        overrides: keys and values, a mapping or in turn.
        options: by their names, with ``_`` for ``-``.

    Raises:
        InputError: a mapping is given as an option, or ``overrides`` are neither.
    """
    keys: Iterable[Any] = overrides
    if isinstance(overrides, str) or not isinstance(overrides, Mapping | Sequence):
        raise InputError(f"overrides {overrides!r}: expected keys and values, a mapping or a list")
    if isinstance(overrides, Mapping):
        keys = (text for pair in overrides.items() for text in pair)
    given = [_option(name, value) for name, value in options.items()
             if value is not None and value is not False]
    return [*words, *map(str, keys), *(text for option in given for text in option)]


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.strip('_').replace('_', '-')}"
    if isinstance(value, Mapping):
        raise InputError(f"{flag} {value}: expected a value or a list of values")
    if value is True:
        return [flag]
    if isinstance(value, list | tuple):
        return [flag, *map(str, map(expanded, value))]
    return [f"{flag}={expanded(value)}"]
