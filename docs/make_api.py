#!/usr/bin/env python
"""Writes docs/api.md: every public name of the package with the first sentence of its docstring.

    python docs/make_api.py

Reads the source without importing it. A test holds that the page is up to date.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/api.md"
PACKAGE = ROOT / "vindr_det"
HEADER = """# Public names

Every public module, class and function of the package, one line each, in the order of the data flow. Written
by `python docs/make_api.py` from the docstrings; `help()` has arguments, shapes, units and errors. Names that
a folder exports can be imported from the folder; all others from their module, such as
`from vindr_det.metrics.bootstrap import Bootstrap`.
"""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def layers() -> list[str]:
    """Folders and modules below vindr_det, from what knows least to what knows most (pyproject.toml)."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^layers = \[(.*?)^\]", text, re.S | re.M)
    assert listed, "pyproject.toml has no layers"
    return [name for line in reversed(re.findall(r'"(.+?)"', listed[1])) for name in line.split(" | ")]


def summary(node: ast.AsyncFunctionDef | ast.FunctionDef | ast.ClassDef | ast.Module) -> str:
    """The first sentence of a docstring, as Markdown."""
    paragraph = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.:?!]) (?=[A-Z`])", paragraph)[0].rstrip(".:")
    sentence = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", sentence).replace("``", "`")
    parts = sentence.split("`")  # every second one is code
    parts[::2] = [re.sub(r"([*<_|])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def public(module: ast.Module) -> list[Definition]:
    """Classes and functions of a module, in its order."""
    return [node for node in module.body if isinstance(node, Definition) and not node.name.startswith("_")]


def exported(module: ast.Module) -> list[str]:
    """Names in ``__all__``."""
    for node in module.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def parse(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def module_lines(path: Path) -> Iterator[str]:
    """A module and its public names."""
    module = parse(path)
    yield f"- **`{path.stem}`**: {summary(module)}"
    for node in public(module):
        yield f"  - `{node.name}`: {summary(node)}"


def folder_lines(folder: Path) -> Iterator[str]:
    """A folder: its docstring, what it exports, its modules, then its folders."""
    module = parse(folder / "__init__.py")
    yield f"\n## `{'.'.join(folder.relative_to(ROOT).parts)}`\n\n{summary(module)}."
    if exported(module):
        yield f"\nExports {', '.join(f'`{name}`' for name in sorted(exported(module), key=str.lower))}."
    yield ""
    for path in sorted(folder.glob("*.py")):
        if path.stem != "__init__":
            yield from module_lines(path)
    for inner in sorted(folder.glob("*/__init__.py")):
        yield from folder_lines(inner.parent)


def page(names: Sequence[str]) -> str:
    """The whole page: folders, the modules beside them that use folders, then the helpers."""
    folders = [name for name in names if (PACKAGE / name).is_dir()]
    helpers = [name for name in names if (PACKAGE / f"{name}.py").is_file()]
    lines = [HEADER.rstrip()]
    for name in folders:
        lines += folder_lines(PACKAGE / name)
    lines += ["\n## Modules beside the folders", ""]
    for name in helpers:
        lines += module_lines(PACKAGE / f"{name}.py")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(layers()), encoding="utf-8")
    print(f"wrote {PAGE}")
