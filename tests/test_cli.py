"""What every tool shares: help with defaults; one line for the user's errors, a traceback for ours."""

import argparse
import runpy
import subprocess
import sys

import pytest
from conftest import ROOT

from vindr_det import cli
from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, make_folder, require_writable

SCRIPT = """
import errno, os, sys
from vindr_det import cli
from vindr_det.exceptions import InputError
sys.argv = ["tool.py"]
kind = {kind!r}
def main(argv):
    print("caf\\udce9")
    if kind == "input":
        raise InputError("x.csv:\\n row 2")
    if kind == "disk":
        raise OSError(errno.ENOSPC, "No space left on device", "out.csv")
    if kind == "bug":
        raise OSError(errno.EBADF, "Bad file descriptor")
    return int(kind)
cli.run(main)
"""


@pytest.mark.parametrize("kind, status, line", [
    ("0", 0, ""), ("1", 1, ""), ("input", 2, "tool.py: x.csv: row 2"),
    ("disk", 2, "tool.py: out.csv: No space left on device"),
    ("bug", 1, "OSError: [Errno 9] Bad file descriptor"),
])
def test_exit_status_and_line(kind, status, line):
    run = subprocess.run([sys.executable, "-c", SCRIPT.format(kind=kind)], capture_output=True, text=True)
    assert run.returncode == status, run.stderr
    assert run.stdout == "caf\\udce9\n"  # a name that is not UTF-8 can be printed
    assert (run.stderr.strip().splitlines() or [""])[-1] == line
    assert ("Traceback" in run.stderr) == (kind == "bug")


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="File name too long"), atomic_path(tmp_path / ("x" * 256)) as path:
        path.write_text("lost")
    with pytest.raises(InputError, match="file: is a file, expected a folder"):
        make_folder(tmp_path / "file")
    with pytest.raises(InputError, match="expected a folder"), atomic_path(tmp_path / "file/below.csv"):
        pass
    with pytest.raises(InputError, match="is no regular file"):
        require_writable("/dev/full")
    with pytest.raises(InputError, match="No space left"), atomic_path(tmp_path / "full") as path:
        raise OSError(28, "No space left on device", str(path))
    with pytest.raises(KeyError), atomic_path(tmp_path / "bug"):
        raise KeyError("ours")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_shows_defaults_and_line_breaks():
    parser = cli.parser("First line.\n\n    python tool.py\n")
    parser.add_argument("--folds", type=int, default=5, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="which numbers")
    parser.add_argument("--skill", type=float, default=0.0, help="added to logits")
    parser.add_argument("--meta", help="original sizes")
    parser.add_argument("--resume", action="store_true", help="keep what is finished")
    text = parser.format_help()
    assert "First line.\n\n    python tool.py\n" in text
    assert "how many (default: 5)" in text
    assert "which numbers (default: 0)" in text and "added to logits (default: 0.0)" in text
    assert text.count("default") == 3  # None and a flag's False are no news


class _Built(Exception):
    """Carries a tool's parser out of its ``main``."""


def _parser_of(tool, monkeypatch, *argv):
    def stop(self, *args, **kwargs):
        raise _Built(self)

    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, stop)
    with pytest.raises(_Built) as built:
        runpy.run_path(str(tool))["main"](*argv)
    return built.value.args[0]


def _options(parser):
    """Every option of a parser and of its subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _options(command)
        else:
            yield action


@pytest.mark.parametrize("tool", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.name)
def test_every_option_has_a_help_text_and_its_default_comes_from_argparse(tool, monkeypatch):
    options = list(_options(_parser_of(tool, monkeypatch, [])))
    named = {option.option_strings[-1] if option.option_strings else option.dest: option.help or ""
             for option in options}
    assert not [name for name, text in named.items() if not text], "options without a help text"
    assert not [name for name, text in named.items() if "default" in text.lower()], "defaults in prose"


BENCHMARKS = [path for path in sorted((ROOT / "benchmarks").glob("*.py"))
              if "__main__" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.name)
def test_benchmarks_show_their_help_and_defaults_before_they_begin(benchmark, monkeypatch):
    monkeypatch.syspath_prepend(benchmark.parent)
    assert _parser_of(benchmark, monkeypatch).formatter_class is cli.parser("").formatter_class
