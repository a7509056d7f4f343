"""metrics.json: a JSON object a line, with the iteration (from 0) that it belongs to."""

import json
from pathlib import Path


def keep_until(path: str | Path, done: int) -> None:
    """Cut off what a training wrote after the ``done`` iterations that its checkpoint knows.

    A resumed training writes these lines again; a fresh one (0) begins with an empty file. The file
    is shortened in place, so that whoever has it open goes on at its end.
    """
    path = Path(path)
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["iteration"] >= done or not line.endswith("\n"):
                break
        except (json.JSONDecodeError, KeyError):  # the line that was being written at a kill
            break
        kept.append(line)
    with path.open("r+b") as file:
        file.truncate(len("".join(kept).encode()))
