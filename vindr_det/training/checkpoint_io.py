"""Checkpoints and weights, read without executing anything that is in the file.

A pickle can name any function and call it. Those of Detectron2's and Detectron1's model zoos hold
dictionaries of numpy arrays; only what these need is allowed.
"""

import pickle
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vindr_det.exceptions import InputError, one_line
from vindr_det.files import existing_file

_ALLOWED = {
    ("collections", "OrderedDict"), ("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "scalar"),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def read_pickle(path: str | Path) -> dict[str, Any]:
    """A ``.pkl`` of a model zoo.

    Returns:
        ``{"model": {name: array}, ...}`` as in Detectron2's checkpointer, with ``matching_heuristics`` for
        Caffe2's names.

    Raises:
        InputError: damaged, or it holds more than plain values and numpy arrays.
    """
    try:
        with existing_file(path).open("rb") as file:
            data = _ArraysOnly(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, AttributeError,
            ImportError, TypeError) as error:
        raise InputError(f"{path}: not a pickle of plain values and numpy arrays ({error})") from error
    _dictionary(path, data)
    if "model" in data and "__author__" in data:
        return data
    blobs = data.get("blobs", data)
    weights = {key: value for key, value in blobs.items() if not str(key).endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def read_file(path: str | Path) -> dict[str, Any]:
    """A checkpoint of tensors and plain values.

    Raises:
        InputError: missing, damaged, or it holds pickled code.
    """
    import pickle
    import struct

    import torch

    existing_file(path)
    try:  # bytes that are not a pickle raise any of these
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError,
            AttributeError, AssertionError, OverflowError, struct.error) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # whose message suggests executing the file
            reason = "damaged, or it holds other objects"
        raise InputError(f"{path}: not a checkpoint of tensors and plain values ({reason})") from error
    return _dictionary(path, data)


@contextmanager
def weights_of(path: str | Path) -> Iterator[None]:
    """Weights that do not fit the network of their config, as one line that names their file.

    Raises:
        InputError: ``load_state_dict`` refuses them.
    """
    try:
        yield
    except RuntimeError as error:
        _, is_of_weights, differences = one_line(error).partition("Error(s) in loading state_dict for ")
        if not is_of_weights:
            raise
        raise InputError(f"{path}: weights of another network than its config describes "
                         f"({textwrap.shorten(differences, 200, placeholder=' ...')})") from error


def require_agreement(path: str | Path, entries: Mapping[str, Any], of_config: Mapping[str, Any]) -> None:
    """Refuse what stands beside a config and contradicts it.

    Args:
        path: named in errors.
        entries: as they are written; those of earlier versions may lack some.
        of_config: what the config says, by the same names.

    Raises:
        InputError: names the first entry that differs.
    """
    for name, expected in of_config.items():
        if name in entries and entries[name] != expected:
            raise InputError(f"{path}: its {name} is {entries[name]!r}, expected {expected!r}, as in its "
                             "config")


def _dictionary(path: str | Path, data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a {type(data).__name__}, expected a dictionary")
    return data
