"""The page's HTML, of sections, the case browser's data and pictures; it loads nothing from anywhere."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from vindr_det.report.blocks import Section

#: In the order in which they are one script.
SCRIPTS = (
    "elements.js",
    "theme.js",
    "tables.js",
    "axes.js",
    "charts.js",
    "boxes.js",
    "filters.js",
    "picture.js",
    "browser.js",
)
_FOLDER = "static"


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: its heading.
        sections: in order; the case browser comes after the first.
        browser: of :func:`vindr_det.report.cases.browser_json`; None for a page without cases.
        browser_notes: sentences above the browser.
    """

    title: str
    sections: Sequence[Section]
    browser: Mapping[str, Any] | None = None
    browser_notes: Sequence[str] = ()

    def html(self, pictures: Sequence[str] = ()) -> str:
        """The page.

        Args:
            pictures: base64 of JPEG files; the case's number, or that of its map, is the place.
        """
        script = "\n".join(static(name) for name in SCRIPTS)
        charts = [[block.as_json() if hasattr(block, "as_json") else None for block in section.blocks]
                  for section in self.sections]
        return _template().render(page=self, style=Markup(static("page.css")), script=Markup(script),
                                  script_hash=_hash(script), data=embedded(self.browser),
                                  charts=embedded(charts), pictures=pictures)


def static(name: str) -> str:
    """A file of the package's folder ``static``."""
    return resources.files(__package__).joinpath(_FOLDER, name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    return environment.from_string(static("page.html"))


def embedded(data: Any) -> Markup:
    """JSON for a script element: no name or id in it can end the element or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _hash(script: str) -> str:
    """Of the page's own script, the only one that its policy lets run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
