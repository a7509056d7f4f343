"""The section that lets a reviewer audit a report: versions, options, hashes of files, configs."""

import hashlib
import platform
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from vindr_det import __version__
from vindr_det.report.blocks import Block, Cell, Facts, Section, Table, Text
from vindr_det.report.request import FILES, ReportRequest, as_text

_LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "hotcoco",
    "pycocotools",
    "timm",
    "lightning",
)
#: Files of a training whose content decides what it predicts.
_MODELS = ("model_best.pth", "model_final.pth", "fold*.pth", "operating_points.json", "config.yaml")
_PATH = re.compile(r"(?<![\w.])(?:/[^/\s'\"]+)+/(?=[^/\s'\"])")


def provenance_section(request: ReportRequest, shown: Sequence[Path] = ()) -> Section:
    """Versions, options, SHA-256 of inputs and weights, and the configs of trainings.

    Args:
        request: of the report.
        shown: files of the images that the page shows.
    """
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    versions = [("made", made, ""), ("vindr_det", __version__, ""), ("Python", platform.python_version(), ""),
                ("system", f"{platform.system()} {platform.machine()}", "")]
    versions += [(name, version, "") for name in _LIBRARIES if (version := _version(name))]
    rows = [[Cell(what), Cell(path.name), Cell.of(path.stat().st_size), Cell(sha256(path))]
            for what, path in _inputs(request)]
    if shown:
        size = sum(path.stat().st_size for path in shown)
        rows.append([Cell("images shown"), Cell(f"{len(shown)} files"), Cell.of(size), Cell(sha256(*shown))])
    options = [(name, value, "") for name, value in as_text(request).items()]
    blocks: list[Block] = [Facts(versions, title="Versions"), Facts(options, title="Options")]
    if rows:
        blocks.append(Table("Files", ["what", "file", "bytes", "SHA-256"], rows,
                            "That of the images shown is of their content, in the order of the cases."))
    return Section("provenance", "Provenance", [*blocks, *_configs(request)])


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _inputs(request: ReportRequest) -> Iterator[tuple[str, Path]]:
    for name in FILES:
        if getattr(request, name):
            yield name, Path(getattr(request, name))
    for path in request.ledger:
        yield "ledger", Path(path)
    for name in ("training", "classifier"):
        folder = getattr(request, name)
        for pattern in _MODELS if folder else ():
            yield from ((name, path) for path in sorted(Path(folder).glob(pattern)))


def sha256(*paths: Path) -> str:
    """Hexadecimal SHA-256 of the files' content, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def _configs(request: ReportRequest) -> Iterator[Block]:
    """The configs of the trainings, without the folders of the machine that they ran on."""
    for name in ("training", "classifier"):
        path = Path(getattr(request, name) or "") / "config.yaml"
        if getattr(request, name) and path.is_file():
            yield Text(f"config.yaml of the {name if name == 'classifier' else 'detector'}",
                       _PATH.sub("…/", path.read_text(encoding="utf-8", errors="replace")))
