"""Start-up: the help of a command, and the import, against the imports that they would wait for.

    python benchmarks/bench_startup.py [--quick]

Each is a process of its own, from its start to its end. The targets are .5 s for --help and .1 s for the
import on an idle machine; the time of Python itself is in both.
"""

import subprocess
import sys
from collections.abc import Iterable

from comparison import Row, alternate

from vindr_det import cli

#: The parser with the most options, and the one that once imported a config's libraries.
COMMANDS = ("predict", "train")


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="one turn")
    args = parser.parse_args()
    from bench import table

    print(table(list(rows(args.quick))))


def rows(quick: bool) -> Iterable[Row]:
    """The rows of RESULTS.md."""
    turns = 1 if quick else 9
    yield alternate("import vindr_det", ("import vindr_det", lambda: python("-c", "import vindr_det")),
                    ("import torch", lambda: python("-c", "import torch")), turns=turns)
    for name in COMMANDS[:1] if quick else COMMANDS:
        yield alternate(f"{name} --help", (f"vindr-det {name}",
                                           lambda name=name: python("-m", "vindr_det", name, "--help")),
                        ("import torch", lambda: python("-c", "import torch")), turns=turns)


def python(*arguments: str) -> None:
    """Run Python, and wait for its end."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
