"""The optional libraries of the web service."""

from importlib.util import find_spec

from vindr_det.exceptions import InputError

#: Module -> package.
_PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}


def require_libraries() -> None:
    """Refuse to start without the libraries of the extra ``serve``.

    Raises:
        InputError: names the packages that are not installed.
    """
    missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        names = " ".join(missing)
        raise InputError(f"not installed: {names}, which vindr-det serve needs; pip install {names}")
