"""What the documents state must be so: commands, options, keys, links, files, names and snippets."""

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import HAS_DETECTRON2, ROOT

from vindr_det.classification.config import defaults
from vindr_det.commands import names
from vindr_det.config import leaves
from vindr_det.detection.torchvision.config import get_torchvision_cfg

GUIDES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))
PAGES = ["README.md", "INSTALL.md", "CONTRIBUTING.md", "MODEL_ZOO.md", "datasets/README.md",
         "benchmarks/README.md", *(page for page in GUIDES if page != "docs/api.md")]
#: Folders that users fill.
MADE_BY_USERS = ("datasets/vindr", "datasets/nih", "datasets/chestx-det", "datasets/rsna",
                 "datasets/siim-covid")


def text_of(page: str) -> str:
    """A page with continuation lines joined."""
    return (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")


def commands() -> Iterator:
    """Every ``vindr-det ...``, ``python tools/...`` and ``python benchmarks/...`` of the documents."""
    for page in PAGES:
        for line in re.findall(r"(?:python (?=tools|benchmarks|docs)|(?:(?<=`)|^)(?=vindr-det [a-z]))"
                               r"([^`\n]+)", text_of(page), re.MULTILINE):
            words = shlex.split(line.replace("[", "").replace("]", ""), comments=True)
            words = [f"vindr-det {words[1]}", *words[2:]] if words[0] == "vindr-det" else words
            yield pytest.param(words, id=f"{page}: {line[:60]}")


@cache
def known_options(script: str, *subcommand: str) -> frozenset[str]:
    """The options of a tool by its --help, those of a benchmark, which imports for seconds, by its source."""
    program = ["-m", "vindr_det", script.split()[-1]] if script.startswith("vindr-det") else [ROOT / script]
    if not script.startswith("benchmarks/"):
        shown = subprocess.run([sys.executable, *map(str, program), *subcommand, "--help"], text=True,
                               capture_output=True, check=True, timeout=60).stdout
        return frozenset(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", shown, re.MULTILINE)
                         + re.findall(r"^ +--[\w-]+ \S+, (--[\w-]+)", shown, re.MULTILINE))
    return frozenset(re.findall(r'"(--[\w-]+)"', (ROOT / script).read_text(encoding="utf-8")))


def subcommands(script: str) -> list[str]:
    """Those of the tools that have some."""
    formats = ["vinbigdata", "nih", "nih-boxes", "vindr-cxr", "vindr-pcxr", "chestx-det", "rsna",
               "siim-covid", "coco", "yolo"]
    return {"vindr-det gate": ["fit", "apply"], "vindr-det convert": formats}.get(script, [])


@pytest.mark.parametrize("command", commands())
def test_documented_commands_exist(command):
    script, *arguments = command
    assert script.removeprefix("vindr-det ") in names() or (ROOT / script).is_file()
    subcommand = [argument for argument in arguments[:1] if argument in subcommands(script)]
    options = {argument for argument in arguments if re.match("--[a-z]", argument)}
    assert options <= known_options(script, *subcommand)


@pytest.mark.parametrize("page", PAGES)
def test_documented_options_exist(page):
    """Also those that stand in a sentence, without their tool."""
    scripts = [*(f"vindr-det {name}" for name in names()), "tools/link_detectron2.py",
               *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("benchmarks/*.py"))]
    known = {option for script in scripts for subcommand in ([], *([name] for name in subcommands(script)))
             for option in known_options(script, *subcommand)}
    named = set(re.findall(r"`(?:python \S+ |\w+\.py |vindr-det \S+ )?(--[a-z][\w-]*)", text_of(page)))
    assert named <= known


@pytest.mark.parametrize("page", PAGES)
def test_documented_keys_exist(page):
    known = {key for cfg in (get_torchvision_cfg(), defaults()) for key, _ in leaves(cfg)}
    nodes = "MODEL|INPUT|DATA|SOLVER|VINDR|DATASETS|TEST"
    named = set(re.findall(rf"\b(?:{nodes})\.[A-Z][A-Z0-9_.]*[A-Z0-9]", text_of(page)))
    assert {key for key in named if not any(f"{each}.".startswith(f"{key}.") for each in known)} == set()


def anchors(page: Path) -> set[str]:
    """What links can lead to in a page, as GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            linked = path.parent / name if name else path
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    folders = "vindr_det|tools|configs|benchmarks|tests|docs|datasets"
    for name in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/.*-]*\w)", text_of(page)):
        if not name.startswith(MADE_BY_USERS):
            assert list(ROOT.glob(name)), name


def definitions(module: Path) -> set[str]:
    """Names that a module defines or imports."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
            for alias in node.names} | {
        getattr(node, "name", "") for node in tree.body} | {
        target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
        if isinstance(target, ast.Name)}


@pytest.mark.parametrize("page", PAGES)
def test_named_python_names_exist(page):
    """Dotted names such as ``vindr_det.imaging.packed.PackedImages``."""
    for dotted in re.findall(r"\bvindr_det(?:\.\w+)+", text_of(page)):
        path, rest = ROOT, dotted.split(".")
        while rest and (path / rest[0]).is_dir():
            path /= rest.pop(0)
        is_module = rest and (path / f"{rest[0]}.py").is_file()
        module = path / (f"{rest.pop(0)}.py" if is_module else "__init__.py")
        assert module.is_file() and (not rest or rest[0] in definitions(module)), dotted


def snippets() -> Iterator:
    """Every Python block of the documents."""
    for page in PAGES:
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)):
            yield pytest.param(code, id=f"{page} {number}")


@pytest.mark.parametrize("code", snippets())
def test_snippets_import(code):
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    if "detectron2" in ast.unparse(imports) and not HAS_DETECTRON2:
        pytest.skip("Detectron2 does not import (INSTALL.md)")
    exec(compile(ast.Module(imports, []), "snippet", "exec"), {})


def test_readme_is_short_and_leads_to_every_guide():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 80
    assert [page for page in GUIDES if f"({page})" not in readme] == []


def test_api_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs/make_api.py")
    make_api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_api)
    written = make_api.PAGE.read_text(encoding="utf-8")
    assert written == make_api.page(make_api.layers()), "run python docs/make_api.py"
