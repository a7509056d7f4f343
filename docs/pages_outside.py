"""Takes pages outside ``docs/`` into the site: a page has one home, where people look for it on disk.

A hook of mkdocs. Links between pages are those of the files in the repository; here they become the site's.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
#: Path in the repository -> page of the site.
OUTSIDE = {
    "INSTALL.md": "install.md", "MODEL_ZOO.md": "model_zoo.md", "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md", "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "datasets/README.md": "layout.md", "benchmarks/README.md": "benchmarks.md",
    "benchmarks/RESULTS.md": "benchmark_results.md",
}
#: A link or an image; of files that are no pages the text stays, without a link.
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository to links of the site."""
    homes = {page: path for path, page in OUTSIDE.items()}
    here = homes.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return _LINK.sub(lambda link: _linked(link, here), markdown)


def _linked(link: re.Match[str], here: str) -> str:
    image, text, target = link.groups()
    if target.startswith(("http:", "https:", "#")):
        return link[0]
    name, _, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), name))
    page = OUTSIDE.get(path, path.removeprefix("docs/") if path.startswith("docs/") else "")
    if not page:
        return text if (ROOT / path).exists() else link[0]
    return f"{image}[{text}]({page}{'#' if anchor else ''}{anchor})"
