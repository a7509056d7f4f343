"""``vindr-det``: what it lists, how fast, and that the scripts in tools/ are the same."""

import ast
import re
import subprocess
import sys
import time

import pytest
from conftest import ROOT, one_line

from vindr_det.commands import COMMANDS, names
from vindr_det.shipped import CONFIGS, config_path


def vindr_det(*args, cwd=None):
    return subprocess.run([sys.executable, "-m", "vindr_det", *map(str, args)], text=True, cwd=cwd,
                          capture_output=True, timeout=60)


def test_help_lists_every_command_at_once():
    began = time.perf_counter()
    result = vindr_det("--help")
    assert time.perf_counter() - began < 1.5 and result.returncode == 0
    assert vindr_det().stdout == result.stdout
    modules = {path.stem.replace("_", "-") for path in (ROOT / "vindr_det/commands").glob("*.py")
               if "\ndef main(" in path.read_text()}
    assert set(names()) == modules and len(names()) == len(set(names()))
    assert re.findall(r"^  ([a-z-]+)  ", result.stdout, re.M) == names()
    assert all(what for group in COMMANDS.values() for what in group.values())


def test_help_waits_for_no_library():
    """Below half a second each: of what a command needs, its help needs nothing."""
    code = """
import contextlib, importlib, os, sys
from vindr_det.commands import module_of, names
slow = {"torch", "torchvision", "numpy", "pandas", "cv2", "yaml", "scipy", "matplotlib", "pydicom", "fvcore"}
for name in names():
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(open(os.devnull, "w")):
        importlib.import_module(module_of(name)).main(["--help"])
    if slow & set(sys.modules):
        sys.exit(f"{name}: {slow & set(sys.modules)}")
print(len(names()))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (result.stdout, result.stderr) == (f"{len(names())}\n", "")


def test_every_command_has_a_script_with_its_main():
    called = {re.search(r"vindr_det\.commands\.(\w+) import main", path.read_text())[1].replace("_", "-")
              for path in (ROOT / "tools").glob("*.py") if path.name != "link_detectron2.py"}
    assert called == set(names())


@pytest.mark.parametrize("command", names())
def test_a_commands_module_shows_how_to_call_it(command):
    tree = ast.parse((ROOT / f"vindr_det/commands/{command.replace('-', '_')}.py").read_text())
    assert f"\n    vindr-det {command}" in ast.get_docstring(tree, clean=False)


@pytest.mark.parametrize("args, line", [
    (["predct"], "vindr-det: predct: no such command; did you mean predict?"),
    (["zzz"], "vindr-det: zzz: no such command; vindr-det --help lists them"),
    (["--nope"], "vindr-det: --nope: no such command; vindr-det --help lists them"),
    (["evaluate", "--predictions", "no.csv", "--annotations", "no.json"],
     "vindr-det evaluate: no.json: no such file"),
    (["fuse", "--nope"], "vindr-det fuse: the following arguments are required: --predictions, --meta, --out "
     "(see --help)"),
])
def test_bad_calls_are_one_line(tmp_path, args, line):
    assert one_line(vindr_det(*args, cwd=tmp_path)) == line


def test_version():
    import vindr_det as package

    assert vindr_det("--version").stdout == f"vindr-det {package.__version__}\n"


def test_shipped_configs_are_read_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_path("configs/vindr_frcnn.yaml") == CONFIGS / "vindr_frcnn.yaml"
    assert config_path("demo/vindr_frcnn_demo.yaml").is_file()
    assert config_path("no.yaml").name == "no.yaml" and not config_path("/vindr_frcnn.yaml").exists()
    (tmp_path / "vindr_frcnn.yaml").touch()  # the user's own comes first
    assert str(config_path("vindr_frcnn.yaml")) == "vindr_frcnn.yaml"


@pytest.mark.exhaustive  # docs/index.md's page runs its steps
def test_the_quick_demo(tmp_path):
    result = subprocess.run([sys.executable, "-m", "vindr_det", "demo", "--quick", "--engine", "torchvision",
                             "--out", "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "demo/submission.csv").is_file() and (tmp_path / "demo/metrics.json").is_file()
