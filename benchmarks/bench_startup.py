"""Start-up: the help of every command, and the import, against limits and against the import of torch.

    python benchmarks/bench_startup.py [--quick]

Each is a process of its own, from its start to its end, Python's own included.
"""

import subprocess
import sys
from collections.abc import Iterable

from comparison import Row, alternate, of_turns, seconds

from vindr_det import cli
from vindr_det.commands import names

#: Seconds that a command's help may take, and ``import vindr_det`` beyond Python's own start.
HELP, IMPORT = 0.5, 0.1


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="one turn")
    args = parser.parse_args()
    from bench import table

    print(table(list(rows(args.quick))))


def rows(quick: bool) -> Iterable[Row]:
    """The rows of RESULTS.md."""
    turns = 1 if quick else 5
    commands = names()[:2] if quick else names()
    took = {name: [seconds(lambda name=name: help_of(name)) for _ in range(turns)] for name in commands}
    slowest = max(commands, key=lambda name: sorted(took[name])[turns // 2])
    yield of_turns(f"--help, slowest of {len(commands)} commands", (f"vindr-det {slowest}", took[slowest]),
                   ("limit", [HELP] * turns), target=1)
    whole = [seconds(lambda: python("-c", "import vindr_det")) - seconds(lambda: python("-c", ""))
             for _ in range(turns)]
    yield of_turns("import vindr_det", ("beyond Python's start", [max(value, 1e-4) for value in whole]),
                   ("limit", [IMPORT] * turns), target=1)
    yield alternate("vindr-det predict --help", ("vindr-det predict", lambda: help_of("predict")),
                    ("import torch", lambda: python("-c", "import torch")), turns=turns)


def help_of(command: str) -> None:
    """Print a command's help."""
    python("-m", "vindr_det", command, "--help")


def python(*arguments: str) -> None:
    """Run Python, and wait for its end."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
