"""What every tool shares: help with defaults, one-line errors with exit status 2, plain logging."""

import argparse
import io
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vindr_det.device import DEVICES, device_name, is_device
from vindr_det.exceptions import PLACE_ERRORS, InputError, UsageError
from vindr_det.limits import (
    LARGEST_SEED,
    MAX_PIXELS,
    MIN_REPLICATES,
    require_replicates,
    require_seed,
)
from vindr_det.parallel import silence_decoders


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description's line breaks as they are, and the default of every option that has one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # A flag's False is no news, but 0 and 0.0, which equal it, are.
        shown = action.default not in ("", []) and not any(action.default is value for value in (None, False))
        return super()._get_help_string(action) if shown else action.help


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors instead of the usage text, also in subcommands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _HelpFormatter, "allow_abbrev": False, **options})
        self.register("type", None, _name)  # of every option that names no type
        self.register("type", Path, lambda text: Path(_name(text)))

    def error(self, message: str):  # type: ignore[override]
        raise UsageError(f"{message} (see --help)", self.prog)


def _name(text: str) -> str:
    """A path or a name: an empty one, as of a shell's variable that is not set, would be no option at all."""
    if not text:
        raise argparse.ArgumentTypeError("'': an empty path or name, expected one, or the option left out")
    return text


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose description is the tool's docstring, and whose help shows every default."""
    return _Parser(description=doc)


def add_input_options(
    parser: argparse.ArgumentParser,
    workers: str = "processes that read images; one per core, at most 8, if not given",
) -> None:
    """The options of every tool that reads images, except ``--images``, which not all of them require."""
    parser.add_argument("--recursive", action="store_true", help="include subfolders")
    add_workers(parser, workers)
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS,
                        help="refuse images of more pixels, before memory is taken for them")


def add_workers(
    parser: argparse.ArgumentParser, what: str = "processes; one per core if not given"
) -> None:
    """``--workers``."""
    parser.add_argument("--workers", type=process_count, help=what)


def process_count(text: str) -> int:
    """argparse's type of a number of processes."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 1")
    return int(text)


def add_seed(
    parser: argparse.ArgumentParser, default: int = 0, what: str = "of the random generator"
) -> None:
    """``--seed``, of which every library that draws takes 32 bits."""
    parser.add_argument("--seed", type=_seed, default=default, help=what)


def _seed(text: str) -> int:
    try:
        return require_seed(int(text))
    except ValueError as error:
        expected = f"expected a whole number from 0 to {LARGEST_SEED}"
        raise argparse.ArgumentTypeError(f"{text}: {expected}") from error


def replicates(text: str) -> int:
    """argparse's type of a number of bootstrap replicates."""
    try:
        return require_replicates(int(text))
    except ValueError as error:
        expected = f"expected a whole number of {MIN_REPLICATES} or more"
        raise argparse.ArgumentTypeError(f"{text}: {expected}") from error


def add_device(parser: argparse.ArgumentParser, meaning: str, default: str | None = "auto") -> None:
    """``--device`` of a tool that runs a network; its ``meaning`` is followed by the names to choose from."""
    parser.add_argument("--device", type=_device, default=default, help=f"{meaning}: {DEVICES}")


def _device(text: str) -> str:
    name = str(device_name(text))
    if not is_device(name):
        raise argparse.ArgumentTypeError(f"{text}: expected {DEVICES}")
    return name


def add_annotations_of_results(parser: argparse.ArgumentParser) -> None:
    """``--annotations`` of a tool that reads no truth: what the numbers of COCO results stand for."""
    parser.add_argument("--annotations", help="COCO .json whose images and categories the numbers in "
                        "--predictions of COCO results stand for; needed where these have no text ids; its "
                        "images without an entry are empty predictions")


def say_next(*words: object) -> None:
    """Print a command to run next, to be pasted; on stderr, so that stdout has the tool's own answer alone.

    Args:
        words: the command and its arguments, such as ``predict``, ``--weights``, a path; names in capitals
            stand for what only the user knows.
    """
    print(f"next: vindr-det {shlex.join(map(str, words))}", file=sys.stderr, flush=True)


def run(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Run a tool's ``main`` and leave with its exit status.

    Exit status: what ``main`` returns (None means 0); 2 with one line on stderr for an
    :class:`InputError`, or for a disk that is full or not writable; 130 after Ctrl-C, 143 where a training is
    ended by SIGTERM. Any other exception is a bug and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # folders whose names are not UTF-8
    logging.basicConfig(
        level=logging.INFO, format="%(levelname).1s %(message)s", stream=sys.stderr, force=True
    )
    silence_decoders()
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    # Torch's warnings of future changes are for Detectron2's and Lightning's authors, not for users.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    warnings.filterwarnings("ignore", "torch.meshgrid")
    name = Path(sys.argv[0]).name
    try:
        sys.exit(main(None) or 0)
    except InputError as error:
        name = error.command if isinstance(error, UsageError) else name
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        print(f"{name}: {str(error) or 'interrupted'}", file=sys.stderr)
        sys.exit(getattr(error, "status", 130))
    except BrokenPipeError:
        # `tool | head` closed the pipe; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in PLACE_ERRORS:
            raise
        print(f"{name}: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
