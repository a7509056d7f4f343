"""The heavy parts of a trained detector by ONNX Runtime, on the CPU: the same numbers, sooner.

Backbone with pyramid, the head that every pixel passes and the head that every proposal passes are exported
in memory, with batch norms folded into convolutions; what pools the proposals' features becomes
:class:`vindr_det.detection.pooling.Pooling`; resizing, anchors, proposals and NMS stay the engine's, which
therefore finds the same boxes.
"""

import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vindr_det.detection.interface import Predictor
from vindr_det.detection.pooling import pooling_of
from vindr_det.exceptions import InputError
from vindr_det.phantom.radiograph import render

log = logging.getLogger(__name__)

#: Largest difference of a part's outputs, as a share of their largest value.
TOLERANCE = 1e-4
#: Names of the parts in the networks of both engines; lists of modules count by their members.
_PARTS = ("backbone", "proposal_generator.rpn_head", "rpn.head", "head", "roi_heads.box_head")
#: Names of what pools the proposals' features; a cascade calls it at each of its stages.
_POOLERS = ("roi_heads.box_pooler", "roi_heads.box_roi_pool")
_OPSET = 17
#: Batches of radiographs (images, height, width) that parts are tried on: a part that takes the first shape
#: alone, or one image alone, is found by the second.
_BATCHES = ((1, 384, 320), (2, 256, 352))


def with_onnx(predictor: Predictor) -> Predictor:
    """A predictor, changed so that ONNX Runtime computes its parts; those whose outputs differ stay.

    Args:
        predictor: of either engine, on the CPU, in float32.

    Raises:
        InputError: it computes on a GPU or in half precision, or onnx or onnxruntime is not installed.
    """
    network = getattr(predictor, "network", None)
    if network is None:  # an exported file runs in ONNX Runtime anyway
        return predictor
    device = next(network.parameters()).device
    if device.type != "cpu" or getattr(predictor, "half", None) is not None:
        where = f"on {device}" if device.type != "cpu" else "with --half"
        raise InputError(f"--backend onnx {where}: expected the CPU and float32")
    for name in ("onnx", "onnxruntime"):
        _package(name)
    examples = _examples(predictor, network)
    for path, calls in examples.items():
        _replace(network, path, calls)
    return predictor


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"--backend onnx: the package {name} is not installed; pip install onnx "
                         "onnxruntime") from error


def _examples(predictor: Predictor, network: nn.Module) -> dict[str, list[tuple[Any, Any]]]:
    """Path of a part -> its input and output on each of the batches of synthetic radiographs."""
    calls: dict[str, list[tuple[Any, Any]]] = {path: [] for path in _paths(network)}
    hooks = [network.get_submodule(path).register_forward_hook(
        lambda _, inputs, output, path=path: calls[path].append(deepcopy((inputs, output))))
        for path in calls]  # copies, since what follows may work in place
    try:
        for count, height, width in _BATCHES:
            drawn = [render(np.random.default_rng(seed), height, width, labels=(0, 3, 10), bits=12)
                     for seed in range(count)]
            predictor([(radiograph.pixels >> 4).astype(np.uint8) for radiograph in drawn])
    finally:
        for hook in hooks:
            hook.remove()
    return {path: made for path, made in calls.items() if len(made) >= len(_BATCHES)}


def _paths(network: nn.Module) -> Iterator[str]:
    modules = dict(network.named_modules())
    for path in _PARTS + _POOLERS:
        if isinstance(modules.get(path), nn.ModuleList):
            yield from (f"{path}.{number}" for number in range(len(modules[path])))
        elif path in modules:
            yield path


def _replace(network: nn.Module, path: str, calls: Sequence[tuple[Any, Any]]) -> None:
    """Put a session in a part's place where it does the same."""
    part = network.get_submodule(path)
    try:
        replacement = pooling_of(part) if path in _POOLERS else Session(part, *calls[0])
        difference = float(np.max([_difference(output, replacement(*inputs)) for inputs, output in calls]))
    except Exception as error:  # the exporter's and the runtime's errors have no base of their own
        log.debug("%s cannot be exported", path, exc_info=error)
        log.warning("--backend onnx: %s stays in torch, since it cannot be exported (%s)", path,
                    type(error).__name__)
        return
    if not difference <= TOLERANCE:
        log.warning("--backend onnx: %s stays in torch, since its outputs differ by %.1e of their largest, "
                    "expected %.0e at most", path, difference, TOLERANCE)
        return
    part.forward = replacement  # its attributes, weights and hooks stay


class Session:
    """The forward pass of a module in ONNX Runtime, with as many threads as torch has.

    Args:
        module: takes and gives tensors, in tuples, lists and mappings; without random numbers.
        inputs: of a call; their heights, widths and first sides may change.
        output: of the same call.
    """

    def __init__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        runtime = _package("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Torch computes between the runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(_exported(module, inputs, output), options,
                                                 providers=["CPUExecutionProvider"])
        self._names = [entry.name for entry in self._session.get_inputs()]
        self._form = _formed(output, repeat(torch.empty(0)))
        self._in_torch = module.forward

    def __call__(self, *inputs: Any) -> Any:
        """What the module gives; torch computes what is empty, which the runtime refuses."""
        tensors = _leaves(inputs)
        if not all(tensor.numel() for tensor in tensors):
            return self._in_torch(*inputs)
        arrays = [tensor.contiguous().numpy() for tensor in tensors]
        results = self._session.run(None, dict(zip(self._names, arrays, strict=True)))
        return _formed(self._form, map(torch.from_numpy, results))


class _Flat(nn.Module):
    """A module with tensors alone for inputs and outputs."""

    def __init__(self, module: nn.Module, form: Any) -> None:
        super().__init__()
        self.module, self.form = module, form

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(_leaves(self.module(*_formed(self.form, iter(tensors)))))


def _exported(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> bytes:
    """A module as ONNX."""
    tensors, results = _leaves(inputs), _leaves(output)
    names = [f"input{number}" for number in range(len(tensors))]
    outputs = [f"output{number}" for number in range(len(results))]
    free = dict(zip(names + outputs, map(_free_sides, tensors + results), strict=True))
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about constants that are constants here too
        # Tensors of inference mode cannot be traced.
        torch.onnx.export(_Flat(module, inputs), tuple(tensor.clone() for tensor in tensors), file,
                          opset_version=_OPSET, dynamo=False, input_names=names, output_names=outputs,
                          dynamic_axes=free)
    return file.getvalue()


def _free_sides(tensor: Tensor) -> list[int]:
    """All but the channels: (B, C, H, W), (B, N, K), (N, C)."""
    return {4: [0, 2, 3], 3: [0, 1]}.get(tensor.ndim, [0])


def _leaves(value: Any) -> list[Tensor]:
    """The tensors in tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [leaf for part in (value.values() if isinstance(value, Mapping) else value)
            for leaf in _leaves(part)]


def _formed(form: Any, tensors: Iterator[Tensor]) -> Any:
    """Tensors in the tuples, lists and mappings that ``form`` has."""
    if isinstance(form, Tensor):
        return next(tensors)
    if isinstance(form, Mapping):
        return {key: _formed(part, tensors) for key, part in form.items()}
    return type(form)(_formed(part, tensors) for part in form)


def _difference(output: Any, other: Any) -> float:
    """The largest difference, as a share of the largest value."""
    return float(np.max([float((a - b).abs().max() / a.abs().max().clamp(min=1e-12))  # NaN if one is
                         for a, b in zip(_leaves(output), _leaves(other), strict=True) if a.numel()]))
