"""What the documents state must be so: commands, options, keys, links, files, names and snippets."""

import ast
import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT
from page_tree import RENAMED
from pages import PAGES, text_of

from vindr_det.classification.config import defaults
from vindr_det.commands import main_of
from vindr_det.commands import names as all_commands
from vindr_det.config import leaves
from vindr_det.detection.torchvision.config import get_torchvision_cfg

#: Folders that users fill.
MADE_BY_USERS = ("datasets/vindr", "datasets/nih", "datasets/chestx-det", "datasets/rsna",
                 "datasets/siim-covid")
#: Options of pip and mkdocs that sentences name.
OF_OTHER_PROGRAMS = {"--no-index", "--version", "--help", "--torch-backend"}
#: Commands with commands of their own.
SUBCOMMANDS = {"gate": ["fit", "apply"],
               "convert": ["vinbigdata", "nih", "nih-boxes", "vindr-cxr", "vindr-pcxr", "chestx-det", "rsna",
                           "siim-covid", "coco", "yolo"]}


def commands() -> Iterator:
    """Every ``vindr-det ...``, ``python tools/...`` and ``python benchmarks/...`` of the documents."""
    for page in PAGES:
        for line in re.findall(r"(?:vindr-det|python (?:tools|benchmarks|docs)/)[^`\n]+", text_of(page)):
            if re.match(r"vindr-det [a-z]|python ", line):
                words = shlex.split(line.replace("[", "").replace("]", ""), comments=True)
                yield pytest.param(words, id=f"{page}: {line[:60]}")


def in_package(words: list[str]) -> list[str]:
    """The words of a command that ``vindr-det`` has, also where its script in tools/ is named."""
    if words[0] == "vindr-det" or not words[1].startswith("tools/"):
        return words[1:]
    assert (ROOT / words[1]).is_file()
    script = Path(words[1]).stem
    return [RENAMED.get(script, script.replace("_", "-")), *words[2:]]


@cache
def known_options(command: str, *subcommand: str) -> frozenset[str]:
    """The options of a command by its --help; of a benchmark, which imports for seconds, by its source."""
    if "/" in command:
        return frozenset(re.findall(r'"(--[\w-]+)"', (ROOT / command).read_text(encoding="utf-8")))
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main_of(command)([*subcommand, "--help"])
    return frozenset(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", shown.getvalue(), re.MULTILINE)
                     + re.findall(r"^ +--[\w-]+ \S+, (--[\w-]+)", shown.getvalue(), re.MULTILINE))


@pytest.mark.parametrize("words", commands())
def test_documented_commands_exist(words):
    command, *arguments = in_package(words)
    assert command in all_commands() or (ROOT / command).is_file()
    subcommand = [argument for argument in arguments[:1] if argument in SUBCOMMANDS.get(command, [])]
    options = {argument for argument in arguments if re.match("--[a-z]", argument)}
    assert options <= known_options(command, *subcommand)


@pytest.mark.parametrize("page", PAGES)
def test_documented_options_exist(page):
    """Also those that stand in a sentence, without their command."""
    scripts = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("benchmarks/*.py")]
    known = {option for command in [*all_commands(), *scripts]
             for subcommand in ([], *([name] for name in SUBCOMMANDS.get(command, [])))
             for option in known_options(command, *subcommand)}
    named = set(re.findall(r"`(?:python \S+ |vindr-det [a-z-]+ )?(--[a-z][\w-]*)", text_of(page)))
    assert named <= known | OF_OTHER_PROGRAMS


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


def test_readme_is_short_and_leads_to_the_site():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 80 and "(docs/index.md)" in readme


def test_the_site_has_every_page():
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    outside = (ROOT / "docs/pages_outside.py").read_text(encoding="utf-8")
    pages = [*PAGES, "docs/api.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md"]
    assert [page for page in pages if page.startswith("docs/") and f" {page[5:]}\n" not in site] == []
    others = [page for page in pages if not page.startswith("docs/") and page != "README.md"]
    assert [page for page in others if f'"{page}": ' not in outside] == []


def test_api_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs/make_api.py")
    make_api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_api)
    written = make_api.PAGE.read_text(encoding="utf-8")
    assert written == make_api.page(make_api.layers()), "run python docs/make_api.py"
