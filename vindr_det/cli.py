"""What every tool shares: one-line errors with exit status 2, and plain logging."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from vindr_det.errors import InputError
from vindr_det.parallel import silence_decoders


class _OneLineParser(argparse.ArgumentParser):
    """argparse, but a wrong argument costs one line instead of the whole usage text."""

    def error(self, message: str):  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose description is the tool's own docstring, line breaks kept."""
    return _OneLineParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def run(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Run a tool's ``main`` and leave with its exit status.

    Exit status: what ``main`` returns (None means 0); 2 with one line on stderr for an
    :class:`InputError`; 130 after Ctrl-C, and where a training ends for SIGTERM 143. Any other
    exception is a bug and keeps its traceback.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(levelname).1s %(message)s", stream=sys.stderr, force=True
    )
    silence_decoders()
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    # Torch tells Detectron2's and Lightning's authors what will change; users can't act on it.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    warnings.filterwarnings("ignore", "torch.meshgrid")
    name = Path(sys.argv[0]).name
    try:
        sys.exit(main(None) or 0)
    except InputError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        print(f"{name}: {str(error) or 'interrupted'}", file=sys.stderr)
        sys.exit(getattr(error, "status", 130))
    except BrokenPipeError:
        # `tool | head` closed the pipe; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
