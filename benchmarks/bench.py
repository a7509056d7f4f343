#!/usr/bin/env python
"""All steps against what people would use instead, in one run, as a table in benchmarks/RESULTS.md.

    python benchmarks/bench.py
    python benchmarks/bench.py --quick                     shrunk: checks the harness, not the numbers
    python benchmarks/bench.py --only mapper metrics       some of them

Without --out, a run of some or of shrunk steps prints its table alone. Each ``bench_<name>.py`` beside this
file has a function ``rows(quick)`` and runs in a process of its own, one after another. The machine should do
nothing else meanwhile; the load that it had is printed above the table.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from comparison import Row, from_json

from vindr_det import cli
from vindr_det.exceptions import InputError
from vindr_det.files import write_text

HERE = Path(__file__).resolve().parent
_HEAD = "| step | ours | peer | ours | peer | ratio | turns | target |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: checks the harness alone")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of bench_NAME.py; default all")
    parser.add_argument("--out", help="file of the table; a whole run's is benchmarks/RESULTS.md")
    args = parser.parse_args(argv)
    names = [path.stem.removeprefix("bench_") for path in sorted(HERE.glob("bench_*.py"))]
    if unknown := set(args.only) - set(names):
        raise InputError(f"--only {min(unknown)}: expected of {', '.join(names)}")
    load, rows = os.getloadavg()[0], []
    for name in args.only or names:
        print(f"{name} ...", flush=True)
        rows += _rows_of(name, args.quick)
    command = " ".join(["python benchmarks/bench.py", *(sys.argv[1:] if argv is None else argv)])
    print(table(rows))
    if out := args.out or ("" if args.quick or args.only else str(HERE / "RESULTS.md")):
        write_text(out, _page(rows, command, load, args.quick))
        print(f"written: {out}")


def _rows_of(name: str, quick: bool) -> list[Row]:
    code = ("import sys; sys.path[:0] = sys.argv[1:2]\n"
            "from importlib import import_module; from pathlib import Path\n"
            "from comparison import as_json\n"
            "rows = list(import_module('bench_' + sys.argv[2]).rows(sys.argv[3] == 'quick'))\n"
            "Path(sys.argv[4]).write_text(as_json(rows))")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        subprocess.run([sys.executable, "-c", code, str(HERE), name, "quick" if quick else "", str(out)],
                       check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return from_json(out.read_text())


def table(rows: Sequence[Row]) -> str:
    """Rows in Markdown."""
    lines = [_HEAD, "|---" * _HEAD.count(" | ") + "|---|"]
    for row in rows:
        step = f"{row.step} ({row.note})" if row.note else row.step
        lines.append(f"| {step} | {row.ours} | {row.peer} | {row.ours_value:.4g} {row.unit} | "
                     f"{row.peer_value:.4g} {row.unit} | **{row.ratio:.2f}** | "
                     f"{row.low:.2f} to {row.high:.2f} | {row.verdict} |")
    return "\n".join(lines)


def _page(rows: Sequence[Row], command: str, load: float, quick: bool) -> str:
    quickly = "\n**Shrunk inputs (`--quick`): these numbers say nothing.**\n" if quick else ""
    return (f"# Ours against peers\n{quickly}\n`{command}`: the same work in the same run, taking turns; "
            "medians over the turns. The ratio is the median of the turns' ratios, not the ratio of the "
            "medians, and stands with the smallest and the largest; above 1 ours is ahead.\n\n"
            f"Machine: {_machine()}. Load before the run: {load:.1f}.\n\n{table(rows)}\n")


def _machine() -> str:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (f"{os.cpu_count()} cores, {gpu}, {platform.system()} {platform.machine()}, Python "
            f"{platform.python_version()}, torch {torch.__version__}")


if __name__ == "__main__":
    cli.run(main)
