"""What ships with the package: configs, in ``configs/`` of a checkout, inside an installation; bundles."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
#: Folder of the configs.
CONFIGS = next((folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()),
               _PACKAGE / "configs")
#: Folder of the bundles.
BUNDLES = _PACKAGE / "bundles"


def config_path(path: str | Path) -> Path:
    """A config file: the one at this path, or else the shipped one of this name.

    Args:
        path: such as ``mine.yaml``, or ``configs/vindr_frcnn.yaml`` in a folder without ``configs``.

    Returns:
        ``path`` itself if neither exists.
    """
    path = Path(path)
    inside = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    shipped = CONFIGS / inside
    return shipped if not path.exists() and not path.is_absolute() and shipped.is_file() else path
