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

from vindr_det import __version__
from vindr_det.classification.config import defaults
from vindr_det.commands import main_of
from vindr_det.commands import names as all_commands
from vindr_det.config import leaves
from vindr_det.detection.torchvision.config import get_torchvision_cfg

#: Folders that users fill, and a file.
MADE_BY_USERS = ("configs/my.yaml", "datasets/vindr", "datasets/nih", "datasets/chestx-det", "datasets/rsna",
                 "datasets/siim-covid")
#: Options of pip, mkdocs and docker that sentences name.
OF_OTHER_PROGRAMS = {"--no-index", "--version", "--help", "--torch-backend", "--user", "--network"}
#: Commands with commands of their own.
SUBCOMMANDS = {"gate": ["fit", "apply"], "annotate": ["to", "from"],
               "convert": ["vinbigdata", "nih", "nih-boxes", "vindr-cxr", "vindr-pcxr", "chestx-det", "rsna",
                           "siim-covid", "coco", "yolo"]}


def commands() -> Iterator:
    """Every ``vindr-det ...``, ``python tools/...`` and ``python benchmarks/...`` of the documents."""
    for page in PAGES:
        for line in re.findall(r"(?:`|^ *)((?:vindr-det (?=[a-z])|python (?:tools|benchmarks|docs)/)[^`\n]+)",
                               text_of(page), re.MULTILINE):
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
    # -f FILE, --file FILE; from Python 3.13 on -f, --file FILE
    names = re.findall(r"^  (-\S.*?)(?:   ?\S|$)", shown.getvalue(), re.MULTILINE)
    return frozenset(re.findall(r"--[\w-]+", " ".join(names)))


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


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_minute_is_on_the_first_screen(page):
    """Install, a prediction by what ships, and the same in Python, in that order and before all else."""
    start = "\n".join(text_of(page).splitlines()[:45])
    wanted = ["pip install ", "vindr-det predict --bundle phantom ", 'vindr_det.load("phantom")', "synthetic"]
    assert [words for words in wanted if words not in start] == []
    assert start.index(wanted[0]) < start.index(wanted[1]) < start.index(wanted[2])


@pytest.mark.parametrize("page", ["INSTALL.md", "docs/start_hospital.md", "docs/start_kaggle.md"])
def test_what_ships_is_named_where_people_begin(page):
    assert "--bundle phantom" in text_of(page)


@pytest.mark.parametrize("page", [*PAGES, "docs/api.md", "CHANGELOG.md"])
def test_rows_of_a_table_have_the_cells_of_its_head(page):
    rows = [re.sub(r"`[^`]*`|\\\|", "", line).strip() for line in text_of(page).splitlines()]
    counts = [row.count("|") if row.startswith("|") else 0 for row in rows]
    uneven = [row for row, before, count in zip(rows[1:], counts, counts[1:], strict=False)
              if before and count and before != count]
    assert uneven == []


def test_the_changelog_has_each_change_once_and_the_release():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = [" ".join(entry.split()) for entry in re.split(r"^- ", text, flags=re.MULTILINE)[1:]]
    assert sorted(set(entries)) == sorted(entries)
    assert f"## {__version__}\n" in text and f"## {__version__}\n" in text_of("docs/releases.md")
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_site_has_every_page():
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    outside = (ROOT / "docs/pages_outside.py").read_text(encoding="utf-8")
    pages = [*PAGES, "docs/api.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md"]
    assert [page for page in pages if page.startswith("docs/") and f" {page[5:]}\n" not in site] == []
    others = [page for page in pages if not page.startswith("docs/") and page != "README.md"]
    assert [page for page in others if f'"{page}": ' not in outside] == []


def test_the_table_of_extras_is_that_of_setup():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    extras = next(ast.literal_eval(node.value) for node in ast.walk(tree)
                  if isinstance(node, ast.keyword) and node.arg == "extras_require")
    table = re.search(r"\| extra \|.*?\n\n", text_of("INSTALL.md"), re.DOTALL)[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line]
    assert sorted(name for row in rows for name in re.findall(r"`([\w-]+)`", row)) == sorted(extras)
    pins = {line.split("==")[0].lower().replace("_", "-")
            for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}
    needed = {re.split(r"[<>=]", need)[0].lower().replace("_", "-")
              for needs in extras.values() for need in needs}
    assert needed <= pins


def test_api_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs/make_api.py")
    make_api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_api)
    written = make_api.PAGE.read_text(encoding="utf-8")
    assert written == make_api.page(make_api.layers()), "run python docs/make_api.py"


def test_the_container_writes_as_its_user_and_the_citation_has_a_date():
    documented = [text_of(page).replace(" #  ", " ") for page in ("Dockerfile", "INSTALL.md")]
    runs = [" ".join(line.lstrip("# ").split()) for text in documented for line in text.splitlines()
            if "docker run" in line]
    assert len(runs) == 2 and len(set(runs)) == 1 and '--user "$(id -u):$(id -g)" ' in runs[0]
    assert re.search(r"^date-released: \d{4}-\d\d-\d\d$", text_of("CITATION.cff"), re.MULTILINE)


def test_the_workflow_predicts_with_the_wheel():
    lines = re.findall(r"clean/bin/(vindr-det [a-z].*)", text_of(".github/workflows/tests.yml"))
    assert any("predict --bundle phantom" in line for line in lines)
    for words in map(shlex.split, lines):
        assert {word for word in words if word.startswith("--")} <= known_options(words[1])
