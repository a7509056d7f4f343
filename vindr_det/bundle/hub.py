"""Bundles on a Hugging Face hub, by its own library; ``HF_ENDPOINT`` and ``HF_TOKEN`` are its settings."""

import importlib
import logging
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from vindr_det.exceptions import InputError, one_line

_SCHEME = "hf://"
_PLACE = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")
#: What a bundle can hold; a repository may hold more.
_PATTERNS = ["*.json", "*.yaml", "*.safetensors", "README.md"]


class Repository(NamedTuple):
    """A repository of a hub.

    Attributes:
        name: ``user/repo``.
        revision: a branch, a tag or a commit; None for the main branch.
    """

    name: str
    revision: str | None


def is_hub(place: str | Path) -> bool:
    """Whether a place is on a hub and no path."""
    return isinstance(place, str) and place.startswith(_SCHEME)


def require_repository(place: str) -> Repository:
    """The repository of ``hf://user/repo`` or ``hf://user/repo@revision``.

    Raises:
        InputError: it is not written so, or huggingface_hub is not installed.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise InputError(f"{place}: expected hf://user/repo, with @revision for another than the main branch")
    _library(place)
    return Repository(match[1], match[2])


def pull(place: str) -> Path:
    """Download a bundle into the hub library's cache; returns its folder there.

    Raises:
        InputError: no such repository, no access, or no connection.
    """
    repository = require_repository(place)
    library = _library(place)
    try:
        return Path(library.snapshot_download(repository.name, revision=repository.revision,
                                              allow_patterns=_PATTERNS))
    except Exception as error:  # the library's and its connection's have no base of their own
        raise InputError(f"{place}: cannot be pulled ({_reason(error)})") from error


def push(folder: Path, place: str, public: bool = False) -> None:
    """Upload a bundle's files into a repository, which is made if there is none, as a single commit.

    Args:
        folder: of the bundle.
        place: ``hf://user/repo``.
        public: whether a new repository can be read by all.

    Raises:
        InputError: no access, no connection, or a card that the hub does not take.
    """
    repository = require_repository(place)
    library = _library(place)
    api, card = library.HfApi(), (folder / "README.md").read_text(encoding="utf-8")
    try:
        library.ModelCard(card).validate("model")  # before a repository is made that would stay empty
        api.create_repo(repository.name, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repository.name, folder_path=folder, revision=repository.revision,
                          commit_message="vindr-det bundle")
    except Exception as error:  # likewise
        raise InputError(f"{place}: cannot be pushed ({_reason(error)})") from error


def _library(place: str) -> Any:
    for name in ("httpx", "httpx2"):  # which would log each request
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return _quiet(importlib.import_module("huggingface_hub"))
    except ImportError as error:
        raise InputError(f"{place}: needs huggingface_hub, which is not installed; pip install "
                         "huggingface_hub") from error


def _quiet(library: Any) -> Any:
    """The library, without progress bars where there is no terminal."""
    if not sys.stderr.isatty():
        library.utils.disable_progress_bars()
    return library


def _reason(error: Exception) -> str:
    return one_line(error)[:300] or type(error).__name__
