"""What the documents have for a reader to type: commands and snippets, page by page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from conftest import ROOT

PAGES = [*(name for name in ("README.md", "INSTALL.md", "CONTRIBUTING.md", "MODEL_ZOO.md", "SECURITY.md",
                             "datasets/README.md", "benchmarks/README.md")),
         *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name != "api.md")]
#: What a line to type begins with; a fenced block that begins otherwise is a listing or an output.
PROGRAMS = ("vindr-det", "python", "make", "pip", "uv", "git", "conda", "docker", "torchrun", "dask", "curl")
#: Pages whose tables hold whole commands, beside those in fenced blocks.
WITH_COMMANDS_IN_TABLES = ("docs/coming_from.md",)


@dataclass(frozen=True)
class Block:
    """A line to type (``language`` is "shell"), or a snippet of Python."""

    page: str
    language: str
    text: str


def text_of(page: str) -> str:
    """A page with continuation lines joined."""
    return (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")


def blocks(page: str) -> list[Block]:
    """What a page has to type, in its order, each once."""
    fenced = r"^( *)```(\w*)\n(.*?)^\1```"
    within = r"|`(vindr-det [^`\n]+)`" if page in WITH_COMMANDS_IN_TABLES else "|(?!)()"
    every = (block for match in re.finditer(fenced + within, text_of(page), re.MULTILINE | re.DOTALL)
             for block in _blocks_of(page, match))
    return list(dict.fromkeys(every))


def _blocks_of(page: str, match: re.Match[str]) -> Iterator[Block]:
    _, language, body, inline = match.groups()
    if inline:
        if re.search(r"/|\.(?:csv|pth)\b", inline):  # otherwise the mention of a command
            yield Block(page, "shell", _line(inline))
    elif language == "python":
        yield Block(page, "python", body)
    else:
        lines = [_line(line) for line in body.splitlines() if not line.strip().startswith("#")]
        if lines and lines[0].split(" ")[0] in PROGRAMS:
            yield from (Block(page, "shell", line) for line in lines if line)


def _line(text: str) -> str:
    return re.sub(" +", " ", re.sub(r"\s# .*|\s{2,}#.*", "", text).strip())
