"""The documents as a site: builds without network and broken links, and loads nothing from elsewhere."""

import json
import logging
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

mkdocs = pytest.importorskip("mkdocs.config")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from mkdocs.commands.build import build

    out = tmp_path_factory.mktemp("site")
    logging.getLogger("mkdocs").setLevel(logging.WARNING)
    config = mkdocs.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(out), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return out


def test_pages_load_nothing_from_the_net(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe|source|object|embed)\b[^>]*>", page.read_text("utf-8"))
        loaded = [address for tag in tags for address in re.findall(r'(?:src|href|data)="?([^"\s>]+)', tag)]
        assert loaded and not [address for address in loaded if re.match(r"(?:https?:)?//", address)]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text("utf-8"))


def test_links_between_pages_of_the_repository_become_links_of_the_site(site):
    """Of a page in docs/ to another folder's, and back, with the heading."""
    assert 'href="layout.html#nih-chestx-ray14"' in (site / "data.html").read_text("utf-8")
    assert 'href="data.html#other-releases"' in (site / "layout.html").read_text("utf-8")


def test_search_has_its_index_where_the_site_is_files(site):
    """A browser reads no JSON from disk: the index must be a script, the frame our own."""
    script = (site / "search/search_index.js").read_text("utf-8")
    index = json.loads(script.removeprefix("var __index = "))
    assert index == json.loads((site / "search/search_index.json").read_text("utf-8"))
    assert any(entry["location"].startswith("python.html") for entry in index["docs"])
    assert 'src="javascripts/iframe-worker.js"' in (site / "index.html").read_text("utf-8")


#: A page on disk, as far as a frame with a script in it goes: what the theme asks of its worker is answered.
PAGE_ON_DISK = """
const fs = require("fs"), vm = require("vm"), [site, words] = process.argv.slice(1)
const frame = () => {
  const inside = vm.createContext(Object.assign(new EventTarget(), {console, MessageEvent, URL}))
  inside.self = inside.parent = inside
  for (const name of ["addEventListener", "dispatchEvent"]) inside[name] = inside[name].bind(inside)
  const head = {append(script) {
    vm.runInContext(fs.readFileSync(new URL(script.src), "utf8"), inside)
    setTimeout(() => script.onload())
  }}
  return {contentWindow: inside, contentDocument: {createElement: () => ({}), head}}
}
const base = require("url").pathToFileURL(site).href + "/index.html"
globalThis.location = {protocol: "file:"}
globalThis.window = globalThis
const body = {append: made => setTimeout(() => made.onload())}
globalThis.document = {baseURI: base, createElement: frame, body}
vm.runInThisContext(fs.readFileSync(site + "/javascripts/iframe-worker.js", "utf8"))
vm.runInThisContext(fs.readFileSync(site + "/search/search_index.js", "utf8").replace("var ", "globalThis."))
const folder = "assets/javascripts/workers/"
const worker = new Worker(folder + fs.readdirSync(site + "/" + folder).find(name => name.endsWith(".js")))
worker.addEventListener("message", ({data}) => {
  if (data.type === 1) worker.postMessage({type: 2, data: words})
  else console.log(JSON.stringify(data.data.items.map(group => group[0].location)))
})
worker.postMessage({type: 0, data: {...__index, options: {}}})
"""


@pytest.mark.parametrize(("words", "page"), [
    ("xyzzy", None), ("rescore", "gate.html"), ("BitsStored", "dicom.html")])
def test_search_answers_where_the_site_is_files(site, words, page):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    asked = subprocess.run([node, "-e", PAGE_ON_DISK, str(site), words], capture_output=True, text=True,
                           timeout=60)
    assert not asked.returncode, asked.stderr
    pages = [place.partition("#")[0] for place in json.loads(asked.stdout)]
    assert page in pages if page else not pages
