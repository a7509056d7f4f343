"""The index page is complete by itself, and its filters show what they name."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from vindr_det.evaluation.picture_index import Entry, index_page
from vindr_det.imaging.status import FAILED, FLAGGED
from vindr_det.structures.outcomes import Outcome

TP, FP, MISSED = Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE, Outcome.MISSED
ENTRIES = [
    Entry("a b#1", "a b#1.png", boxes=[("Mass", TP), ("Mass", TP), ("Edema", FP)], size=(900, 800)),
    Entry("c", "c.png", FLAGGED, "modality <CT>", boxes=[("Mass", MISSED)], size=(900, 700)),
    Entry('<script>"x"', "x.png", notes=["true: none", "predicted: none"], size=(10, 10)),
    Entry("lost", "", FAILED, "is cut"),
]


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_no_picture_at_all():
    page = Page(index_page([]))
    assert not page.of("figure") and "0 images" in page.text


def test_the_page_loads_nothing_but_the_pictures_beside_it():
    text = index_page(ENTRIES)
    page = Page(text)
    loaded = [value for _, attributes in page.tags for name, value in attributes.items()
              if name in ("src", "href", "srcset", "action", "data")]
    assert loaded == ["a%20b%231.png"] * 2 + ["c.png"] * 2 + ["x.png"] * 2
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)


def test_each_image_has_its_findings_and_its_status():
    page = Page(index_page(ENTRIES))
    assert [figure["data-boxes"] for figure in page.of("figure")] == [
        "1:TRUE_POSITIVE 0:FALSE_POSITIVE", "1:MISSED", "", ""]
    text = "".join(page.text)
    for part in ("Mass (2)", "flagged: modality <CT>", '<script>"x"', "predicted: none", "no picture",
                 "failed: is cut"):
        assert part in text
    assert len(page.of("script")) == 1  # an id is text, whatever it is
    assert [image["width"] for image in page.of("img")] == ["800", "700", "10"]


#: As much of a page as the script needs.
BROWSER = """
const [page, values] = JSON.parse(require("fs").readFileSync(0));
const figures = page.map(dataset => ({dataset, hidden: false}));
const elements = new Proxy({}, {get: (all, id) =>
  all[id] ??= {value: values[id] ?? "", addEventListener() {}}});
const document = {querySelectorAll: () => figures, getElementById: id => elements[id],
  documentElement: {dataset: {}}, querySelector: () => ({addEventListener() {}})};
const matchMedia = () => ({matches: false});
{
%s
}
console.log(JSON.stringify([figures.map(figure => !figure.hidden), elements.count.textContent]));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="runs the page's script with node")
@pytest.mark.parametrize("values, shown", [
    ({}, [1, 1, 1, 1]), ({"finding": "1"}, [1, 1, 0, 0]), ({"finding": "0"}, [1, 0, 0, 0]),
    ({"outcome": "MISSED"}, [0, 1, 0, 0]), ({"finding": "0", "outcome": "TRUE_POSITIVE"}, [0, 0, 0, 0]),
    ({"finding": "1", "outcome": "TRUE_POSITIVE"}, [1, 0, 0, 0]), ({"status": "failed"}, [0, 0, 0, 1]),
    ({"id": " A B"}, [1, 0, 0, 0]), ({"id": "lost", "status": "ok"}, [0, 0, 0, 0])])
def test_filters(values, shown):
    """A finding and an outcome are of the same box."""
    text = index_page(ENTRIES)
    figures = [{name.removeprefix("data-"): value for name, value in figure.items()} for figure in
               Page(text).of("figure")]
    script = BROWSER % re.search(r"<script>(.+)</script>", text, re.DOTALL)[1]
    given = json.dumps([figures, values])
    run = subprocess.run(["node", "-e", script], input=given, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [[bool(of) for of in shown], f"{sum(shown)} of 4 images"]
