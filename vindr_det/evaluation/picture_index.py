"""The index page of a folder of pictures: one HTML file that loads nothing but the pictures beside it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape, unescape
from pathlib import PurePath
from urllib.parse import quote, unquote

from vindr_det.imaging.status import FAILED, FLAGGED, OK
from vindr_det.structures.outcomes import Outcome

#: Of an image that no prediction is known for.
NOT_PREDICTED = "not predicted"
_TITLE = "<title>Pictures with boxes</title>"
_SHOWN = re.compile(r'<figure [^>]*><a href="([^"]*)">')


@dataclass(frozen=True)
class Entry:
    """A picture on the page.

    Attributes:
        image_id: of the image.
        file: its picture, beside the page; empty where there is none.
        status: as of :class:`vindr_det.imaging.status.Status`, or :data:`NOT_PREDICTED`; empty where
            nothing was to be predicted.
        reason: likewise.
        notes: of the legend, such as "predicted: none".
        boxes: finding and outcome of each box.
        size: (height, width) of the picture.
    """

    image_id: str
    file: str
    status: str = OK
    reason: str = ""
    notes: Sequence[str] = ()
    boxes: Sequence[tuple[str, Outcome]] = ()
    size: tuple[int, ...] = (0, 0)


def pictures_of(page: str) -> list[str] | None:
    """The files of the pictures that a page of :func:`index_page` shows; None of any other page."""
    if _TITLE not in page:
        return None
    names = [unquote(unescape(address)) for address in _SHOWN.findall(page)]
    return [name for name in names if name == PurePath(name).name]


def is_of(page: str, predictions: str) -> bool:
    """Whether a page of :func:`index_page` shows the predictions of a file of this name."""
    return bool(predictions) and _of(predictions) in page


def _of(predictions: str) -> str:
    return f'<meta name="predictions" content="{escape(predictions)}">'


def index_page(entries: Sequence[Entry], predictions: str = "") -> str:
    """The page: every picture with its findings, filtered by finding, outcome, status and id.

    Args:
        entries: the pictures, in their order.
        predictions: name of the file that the boxes are of; empty for none.

    Returns:
        HTML without any reference to the network; without JavaScript it is a plain list.
    """
    findings = sorted({name for entry in entries for name, _ in entry.boxes})
    kinds = {kind for entry in entries for _, kind in entry.boxes}
    outcomes = [kind for kind in Outcome if kind in kinds]
    statuses = [status for status in (OK, FLAGGED, FAILED, NOT_PREDICTED)
                if status in {entry.status for entry in entries}]
    filters = "\n".join([
        _select("finding", "finding", [(str(row), name) for row, name in enumerate(findings)]),
        _select("outcome", "box", [(kind.name, kind.value) for kind in outcomes]),
        _select("status", "status", [(status, status) for status in statuses]),
    ])
    rows = {name: row for row, name in enumerate(findings)}
    figures = "\n".join(_figure(entry, rows) for entry in entries)
    return _PAGE.format(filters=filters, figures=figures, count=len(entries), style=_STYLE, script=_SCRIPT,
                        head=_TITLE + (f"\n{_of(predictions)}" if predictions else ""))


def _select(name: str, title: str, options: Sequence[tuple[str, str]]) -> str:
    choices = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options)
    return f'<label>{title} <select id="{name}"><option value="">all</option>{choices}</select></label>'


def _figure(entry: Entry, rows: dict[str, int]) -> str:
    """A picture, its id, what is on it, and in its data what the filters compare."""
    pairs = " ".join(dict.fromkeys(f"{rows[name]}:{kind.name}" for name, kind in entry.boxes))
    name, address = escape(entry.image_id), escape(quote(entry.file))
    height, width = entry.size
    picture = (f'<a href="{address}"><img src="{address}" alt="{name}" loading="lazy" width="{width}" '
               f'height="{height}"></a>') if entry.file else '<p class="none">no picture</p>'
    status = "" if entry.status in (OK, "") else \
        f'<p class="{escape(entry.status.replace(" ", "-"))}">{escape(entry.status)}' \
        f'{": " if entry.reason else ""}{escape(entry.reason)}</p>'
    lines = [*_counts(entry), *map(escape, entry.notes)]
    return (f'<figure data-id="{name.casefold()}" data-status="{escape(entry.status)}" data-boxes="{pairs}">'
            f"{picture}<figcaption><b>{name}</b>{status}{''.join(f'<p>{line}</p>' for line in lines)}"
            "</figcaption></figure>")


def _counts(entry: Entry) -> list[str]:
    """Per outcome the findings and how many boxes each has."""
    lines = []
    for kind in Outcome:
        names = [name for name, given in entry.boxes if given is kind]
        if names:
            listed = ", ".join(f"{escape(name)}{f' ({names.count(name)})' if names.count(name) > 1 else ''}"
                               for name in dict.fromkeys(names))
            lines.append(f"<i>{escape(kind.value)}:</i> {listed}")
    return lines


_STYLE = """
:root { color-scheme: light dark; }
:root[data-theme=light] { color-scheme: light; }
:root[data-theme=dark] { color-scheme: dark; }
body { margin: 0; font: 14px/1.4 system-ui, sans-serif; background: Canvas; color: CanvasText; }
header { position: sticky; top: 0; display: flex; flex-wrap: wrap; gap: .4em 1em; align-items: center;
  padding: .6em 1em; background: Canvas; border-bottom: 1px solid GrayText; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26em, 100%), 1fr)); gap: 1em;
  padding: 1em; }
figure { margin: 0; border: 1px solid GrayText; border-radius: 4px; overflow: hidden; }
figure[hidden] { display: none; }
img { display: block; width: 100%; height: auto; background: #000; }
figcaption { padding: .5em .7em; overflow-wrap: anywhere; }
p { margin: .2em 0 0; } .none { padding: 4em 1em; text-align: center; }
.flagged, .failed, .not-predicted { font-weight: bold; }
.flagged::before, .not-predicted::before { content: "\\26A0 "; } .failed::before { content: "\\2716 "; }
"""

_SCRIPT = """
const value = name => document.getElementById(name)?.value ?? "";
const figures = [...document.querySelectorAll("figure")];
function show() {
  const finding = value("finding"), outcome = value("outcome"), status = value("status");
  const id = value("id").trim().toLowerCase();
  let count = 0;
  for (const figure of figures) {
    const pairs = figure.dataset.boxes.split(" ").filter(Boolean).map(pair => pair.split(":"));
    const fits = (!finding && !outcome || pairs.some(([name, kind]) =>
      (!finding || name === finding) && (!outcome || kind === outcome)))
      && (!status || figure.dataset.status === status) && (!id || figure.dataset.id.includes(id));
    figure.hidden = !fits;
    count += fits;
  }
  document.getElementById("count").textContent = `${count} of ${figures.length} images`;
}
document.querySelector("header").addEventListener("input", show);
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = (root.dataset.theme ? root.dataset.theme === "dark" : isDark) ? "light" : "dark";
});
show();
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{head}
<style>{style}</style>
</head>
<body>
<header>
<span id="count">{count} images</span>
{filters}
<label>id <input id="id" type="search"></label>
<button id="theme" type="button">light / dark</button>
</header>
<main>
{figures}
</main>
<script>{script}</script>
</body>
</html>
"""
