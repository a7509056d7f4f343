"""The documents as a site: builds without network and broken links, and loads nothing from elsewhere."""

import logging
import re

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
