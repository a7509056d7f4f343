"""The project's tools as processes, for benchmarks that need whole trainings."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: Environment of trainings that run beside others.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def tool(name: str, *arguments: Any, **options: Any) -> None:
    """Run ``tools/<name>``; ``options`` goes to subprocess.run."""
    subprocess.run([sys.executable, str(ROOT / "tools" / name), *map(str, arguments)], check=True, **options)


def phantom_data(
    out: Path, train: int, test: int, folds: int, size: int = 448, seed: int = 11
) -> Path:
    """Phantoms of ``size`` pixels in ``raw/``, prepared at 256 px and converted in ``data/``; once."""
    raw, data = out / "raw", out / "data"
    if (data / "annotations/folds.csv").is_file():
        return data
    tool("make_phantoms.py", "--out", raw, "--num-train", train, "--num-test", test, "--size", size,
         "--seed", seed)
    for part in ("train", "test"):
        tool("prepare_images.py", "--images", raw / part, "--out", data / part, "--size", 256,
             "--keep-aspect")
    tool("convert.py", "vinbigdata", "--annotations", raw / "train.csv", "--meta", raw / "train_meta.csv",
         "--images", data / "train", "--out", data / "annotations", "--folds", folds)
    return data
