"""House rules that no linter of the package index holds: the field's words, plain names, sizes, docstrings.

``make lint`` runs this file. Each failure lists the number of places per folder, then the places.
"""

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest
from conftest import ROOT

MAX_FILE_LINES = 350
#: Lines of a function's body from its first statement to its last, without signature and docstring.
MAX_MEDIAN, MAX_NINETIETH_PERCENTILE = 6, 17
#: Names that tell nothing: what is it that there is one of, or that was found?
VAGUE_NAMES = {"one", "found", "how"}
#: Earlier entries of the change log keep their words, docs/api.md quotes docstrings, and this file needs the
#: words that it refuses.
EXEMPT = {"CHANGELOG.md", "docs/api.md", "tests/test_house.py"}

_UNIT = ("image|fold|class|reader|finding|label|core|epoch|line|level|engine|second|box|patient|iteration|"
         "row|machine|GPU|page|file|step|network|model|study|detection")
_NUMBER = r"\d+(?:[.,]\d+)*|two|three|four|five|six|seven|eight|nine|ten"
_COUNTED = ("images?|boxes|rows?|columns?|models?|sizes?|process(?:es)?|files?|seconds?|steps?|one|lists?|"
            "figures?|threads?|times|batch(?:es)?|lines?")
#: What may follow where "boxes an image ..." begins a relative clause.
_CLAUSE = r"(?!['’-]|\s+(?:may|has|holds|is|was|can|could|that|which|of|brings|gives|reads|must|whose)\b)"

#: Our private words -> the field's terms. Whole words in any case; a space also matches a line break.
PRIVATE_WORDS = {
    r"by heart": "overfit, overfitting check",
    r"dealt": "shuffled across images",
    r"tickets?": "SampleKey",
    r"levers?": "ablation, technique, option",
    r"un(?:mended)|mend(?:s|ed|ing)?": "repair",
    r"(?<!page\s)(?<!segmentation\s)faults?": "issue",
    r"thin_normals?|thins? (?:out )?normals?": "subsample normals",
    r"refuse_leaks": "check_disjoint_patients",
    r"foreign": "external",
    r"warmed": "temperature-scaled, calibrated",
    r"fewest": "min_count",
    r"(?:goes?|went|going) on with|--resume (?:goes|go) on": "resumes, continues",
    r"resampl(?:e|es|ed|ing)": "bootstrap replicates",
    r"(?:is|are)(?: not)? told apart": "no significant difference",
    r"swapped signs?|(?:its|their) signs?|a sign that": "inverted labels",
    r"turned round|MONOCHROME1 (?:is )?turned": "inverted",
    r"false alarms?|hits and alarms": "false positives",
    r"hits?": "true positive",
    r"(?<!moving\s)averages? of the weights|averaged weights|averages? the weights": "model EMA",
    r"kinds? of errors?|errorkinds": "TIDE errors",
    r"classifiers?['’]s? words?|(?:its|that|honest|their) words?|(?:has|have) no word|words?: image id":
        "classifier probability",
    r"without a word": "silently",
    r"(?:a|each|per|every) round": "epoch",
    r"(?<!\.)(?<!Optuna's\s)journals?(?! storage)": "study log",
    rf"(?:{_COUNTED}|{_NUMBER}) an? (?:{_UNIT}){_CLAUSE}": "per",
    r"with a word": "and a message",
    r"(?:the|a|each) classifiers? (?:says|said)|says_\w*": "decision, output",
    r"kinds? of mistakes?": "TIDE errors",
    r"the two halves": "search and holdout split",
    r"(?-i:Averaged)(?=[`:,.()]|\s+(?:is|wraps))": "model EMA",
    r"(?-i:Augmented)(?=[`:,.()]|\s+(?:is|wraps))": "TTA",
}
#: The single words among them, refused in parts of names too: hit_rate, SampleTicket.
PRIVATE_PARTS = re.compile(r"hits?|(?:un)?mend(?:s|ed|ing)?|faults?|resampl(?:e|es|ed|ing)|tickets?|"
                           r"levers?|dealt|foreign|fewest|thin|says")
BRITISH_SPELLINGS = {
    r"\w*colour\w*": "color",
    r"\w*(?:hon|behavi|fav|neighb|lab|harb)our\w*": "honor, behavior",
    r"(?:re|de)?centre[ds]?|centring": "center",
    r"greys?|greyscale": "gray",
    r"(?:milli|centi)?metres?": "meter",
    r"catalogues?|dialogues?|analogues?": "catalog",
    r"fulfils?|fulfilment": "fulfill",
    r"(?:un)?(?:label|model|travel|cancel|signal|channel)l(?:ed|ing)": "labeled",
    r"(?:local|normal|initial|optim|visual|general|regular|serial|organ|recogn|summar|minim|maxim|random|util|"
    r"standard|emphas|equal|harmon|categor|character|special|penal|parametr|discret|quant|binar|token|vector)"
    r"is(?:e|ed|es|er|ers|ing|ations?)": "-ize",
    r"analys(?:ed|er|ers|es|ing)": "analyze",
    r"licence[ds]?": "license",
    r"(?:after|to|back|up|down|out|in)wards": "afterward, toward",
    r"learnt|spelt|whilst|amongst": "learned, while",
    r"programmes?": "program",
    r"judgements?|acknowledgements?": "judgment",
    r"artefacts?": "artifact",
    r"per cent": "percent",
}


@cache
def tracked(*patterns: str) -> tuple[Path, ...]:
    """Files of the repository that git knows, below ROOT."""
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return tuple(Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def fail_with(places: list[tuple[Path, int, str]], rule: str) -> None:
    """Fail with counts per folder and the places themselves."""
    if places:
        counts = Counter(str(path.parent) for path, _, _ in places)
        table = "\n".join(f"  {count:4} {folder}" for folder, count in counts.most_common())
        lines = "\n".join(f"  {path}:{line}: {text}" for path, line, text in sorted(places))
        pytest.fail(f"{rule}: {len(places)} places\n{table}\n{lines}", pytrace=False)


def matches(text: str, words: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Line and message of each refused word."""
    for pattern, term in words.items():
        # Between two words may stand a line break, with the comment sign of the next line.
        flexible = pattern.replace(" ", r"\s+(?:#:?\s+)?")
        for match in re.finditer(rf"(?<![\w-])(?:{flexible})(?![\w-])", text, re.IGNORECASE):
            yield text.count("\n", 0, match.start()) + 1, f"{' '.join(match[0].split())} -> {term}"


@pytest.mark.parametrize("words", [PRIVATE_WORDS, BRITISH_SPELLINGS], ids=["private", "british"])
def test_words_are_the_fields(words):
    places = [(path, line, text) for path in tracked("*.py", "*.md", "*.yaml", "*.toml", "*.txt", "Makefile")
              if path.as_posix() not in EXEMPT
              for line, text in matches((ROOT / path).read_text(encoding="utf-8"), words)]
    fail_with(places, "words that a reader from the field does not know")


@pytest.mark.parametrize("text", [
    "one model a fold", "boxes an\n    # image", "resampled", "the colour", "localised", "The lever",
    "faults", "--resume goes on", "the classifier's word", "hits", "three an image", "20 images a step",
    "one model a network", "skipped, with a word", "says_abnormal", "the classifier says",
    "kinds of mistakes", "the two halves", "``Averaged``", "Augmented(model)", "afterwards", "towards",
    "learnt", "programme", "judgement", "artefact", "whilst", "per cent"])
def test_refused_words_are_seen(text):
    assert list(matches(text, PRIVATE_WORDS | BRITISH_SPELLINGS))


@pytest.mark.parametrize("text", [
    "", "model per fold", "images an epoch may hold", "a page fault or two",
    "tuned.journal", "emended", "the image a model reads", "leverage", "raise", "otherwise", "greyhound",
    "a moving average of the weights", "averaged, augmented", "Augmented batches", "two a", "forwards"])
def test_plain_words_are_left_alone(text):
    assert not list(matches(text, PRIVATE_WORDS | BRITISH_SPELLINGS))


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a tracked file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def named(node: ast.AST) -> Iterator[str]:
    """Names that a node gives to a variable, parameter, function, class or attribute."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name


def test_names_are_specific():
    places = [(path, node.lineno, name) for path in tracked("*.py") for node in ast.walk(parsed(path))
              for name in named(node) if name in VAGUE_NAMES]
    fail_with(places, f"names that tell nothing ({', '.join(sorted(VAGUE_NAMES))})")


def parts(name: str) -> set[str]:
    """The words of a name, which ``_`` or a capital letter separates, in lower case."""
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_names_have_no_private_words():
    places = [(path, node.lineno, name) for path in tracked("*.py") if path.as_posix() not in EXEMPT
              for node in ast.walk(parsed(path)) for name in named(node)
              if any(PRIVATE_PARTS.fullmatch(part) for part in parts(name))]
    fail_with(places, "names with a word that a reader from the field does not know")


@pytest.mark.parametrize("name, expected", [
    ("", False), ("hit_rate", True), ("mended_file", True), ("resampled_images", True),
    ("SampleTicket", True), ("white", False), ("recommended", False), ("default_ROI", False)])
def test_private_words_within_names_are_seen(name, expected):
    assert any(PRIVATE_PARTS.fullmatch(part) for part in parts(name)) == expected


def test_files_are_short():
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines())
               for path in tracked("vindr_det/*.py")}
    fail_with([(path, length, "lines") for path, length in lengths.items() if length > MAX_FILE_LINES],
              f"files of more than {MAX_FILE_LINES} lines")


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement to the last, without the docstring; blank lines and comments count."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method of the package, nested ones too."""
    for path in tracked("vindr_det/*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path, node


def test_functions_are_short():
    lengths = [body_lines(node) for _, node in functions()]
    assert median(lengths) <= MAX_MEDIAN
    assert quantiles(lengths, n=10)[-1] <= MAX_NINETIETH_PERCENTILE


#: Methods that a framework documents.
FRAMEWORK_METHODS = {"forward", "visit", "emit", "error"}


def public(node: ast.AST) -> Iterator[ast.AST]:
    """A module, and the classes, methods and functions in it whose names do not begin with ``_``."""
    yield node
    for child in getattr(node, "body", []):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and child.name[0] != "_":
            yield from public(child) if isinstance(child, ast.ClassDef) else [child]


def methods(bases: bool) -> Iterator[ast.FunctionDef]:
    """Methods of the package's classes that have base classes, or of all classes."""
    for path in tracked("vindr_det/*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and (node.bases or not bases):
                yield from (child for child in node.body if isinstance(child, ast.FunctionDef))


def problem_of(docstring: str | None) -> str:
    """What is wrong with a docstring; empty if nothing."""
    if not docstring:
        return "without docstring"
    first = docstring.split("\n", 1)[0]
    is_section = re.match(r"(Args|Attributes|Raises|Returns):", first)
    return f"begins with {first!r}, expected a sentence" if is_section else ""


def _is_command(path: Path, node: ast.AST) -> bool:
    """Whether it is the ``main`` of a command, whose documentation is its module's, which --help shows."""
    return path.parent.name == "commands" and getattr(node, "name", "") == "main"


def test_public_names_have_docstrings():
    """A method of a derived class may leave its docstring to the base class."""
    documented = {method.name for method in methods(bases=False) if ast.get_docstring(method)}
    inherited = {method for method in methods(bases=True)
                 if not ast.get_docstring(method) and method.name in documented | FRAMEWORK_METHODS}
    places = [(path, getattr(node, "lineno", 1), f"{getattr(node, 'name', 'module')}: {wrong}")
              for path in tracked("vindr_det/*.py") for node in public(parsed(path))
              if node not in inherited and not _is_command(path, node)
              and (wrong := problem_of(ast.get_docstring(node)))]
    fail_with(places, "public names without a sentence on what they are")


def test_install_hints_name_libraries_of_the_extras():
    """No hint names an extra: the package itself may be on no index."""
    extras = (ROOT / "setup.py").read_text(encoding="utf-8").partition("extras_require")[2]
    for path in sorted((ROOT / "vindr_det").rglob("*.py")):
        text = re.sub(r'"\s+f?"', "", path.read_text(encoding="utf-8"))
        for hint in re.findall(r'pip\s+install ([^\n"{]+)', text):
            for library in re.match(r"(?:[\w-]+ ?)*", hint)[0].split() or [hint]:
                assert f'"{library}>=' in extras, (path, hint)
