"""Paths without links."""

import os
from pathlib import Path


class RealPaths:
    """``os.path.realpath`` of many paths, which asks the disk once per file and per folder."""

    def __init__(self) -> None:
        self._folders = dict[Path, Path]()

    def __call__(self, path: Path) -> Path:
        """The path without links."""
        if path.name in ("", "..") or os.name == "nt":
            return Path(os.path.realpath(path))
        real = self.folder(path.parent) / path.name
        return Path(os.path.realpath(real)) if real.is_symlink() else real

    def folder(self, folder: Path) -> Path:
        """That of a folder that paths are in."""
        if folder not in self._folders:
            self._folders[folder] = self(folder)
        return self._folders[folder]
