#!/usr/bin/env python
"""Install or link Detectron2 in this environment, and print which engine will run; `make setup` calls it.

    python tools/link_detectron2.py /path/to/detectron2-checkout    # linked, nothing is compiled
    python tools/link_detectron2.py /path/to/detectron2.whl         # installed
    python tools/link_detectron2.py none                            # removed
    python tools/link_detectron2.py ""                              # ~/.cache/vindr_det/detectron2

An empty argument without that folder leaves the environment as it is. Nothing is downloaded.
"""

import contextlib
import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

from vindr_det import cli
from vindr_det.exceptions import InputError

DEFAULT = Path("~/.cache/vindr_det/detectron2").expanduser()


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("source", type=str, nargs="?", default="",
                        help="checkout, wheel, none, or empty for ~/.cache/vindr_det/detectron2")
    source = parser.parse_args(argv).source
    link = Path(sysconfig.get_paths()["purelib"]) / "detectron2"
    if source == "none":
        _unlink(link)
    elif source.endswith(".whl"):
        _install(Path(source), link)
    elif source or (DEFAULT / "detectron2").is_dir():
        _link(Path(source).expanduser() if source else DEFAULT, link)
    importlib.invalidate_caches()

    from vindr_det.detection.engine import describe

    print(describe())


def _unlink(link: Path) -> None:
    if link.is_symlink():
        link.unlink()
    elif link.is_dir():  # a wheel was installed
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "-q", "-y", "detectron2"], check=True)


def _install(wheel: Path, link: Path) -> None:
    if not wheel.is_file():
        raise InputError(f"DETECTRON2={wheel}: no such wheel")
    _unlink(link)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True)


def _link(checkout: Path, link: Path) -> None:
    package = checkout / "detectron2"
    if not (package / "__init__.py").is_file():
        raise InputError(f"DETECTRON2={checkout}: expected a wheel or a checkout, that is a folder "
                         "that holds detectron2/__init__.py")
    link_model_zoo(checkout)
    if not source_differs(link, package):
        return
    _unlink(link)
    link.symlink_to(package.resolve(), target_is_directory=True)


def link_model_zoo(checkout: Path) -> None:
    """Put the checkout's configs where ``detectron2.model_zoo`` looks, as Detectron2's own setup.py does."""
    configs = checkout.resolve() / "detectron2/model_zoo/configs"
    with contextlib.suppress(OSError):  # a checkout that cannot be written to has no model zoo
        if not configs.exists():
            configs.symlink_to(checkout.resolve() / "configs", target_is_directory=True)


def source_differs(link: Path, package: Path) -> bool:
    """Whether the environment's Detectron2 is another than ``package``."""
    if importlib.util.find_spec("detectron2") is None or not link.exists():
        return True
    return link.resolve() != package.resolve()


if __name__ == "__main__":
    cli.run(main)
