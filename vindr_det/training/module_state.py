"""What a forward pass changes in a model beside its parameters: buffers and plain attributes.

Detectron2's dense detectors divide their losses by ``loss_normalizer``, a running average of the number
of positive anchors that is an attribute and not in the state dict.
"""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn

#: "path.of.module.attribute" -> its value
Numbers = dict[str, float]


@contextlib.contextmanager
def put_back(model: nn.Module) -> Iterator[None]:
    """Undo what happens to buffers and attributes of any module within the context."""
    before = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, attributes, buffers in before:
            vars(module).clear()
            vars(module).update(attributes)
            module._buffers.update(buffers)  # some modules assign a new tensor, some write into the old one
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


def numbers(model: nn.Module) -> Numbers:
    """Every whole or floating-point number that is an attribute of a module."""
    return {
        f"{name}.{key}".lstrip("."): float(value) if isinstance(value, float) else value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def changed(model: nn.Module, built: Mapping[str, float]) -> Numbers:
    """The :func:`numbers` that differ from ``built``, those of the model before its training.

    The others came from the config, and come from the config again after a resume.
    """
    return {key: value for key, value in numbers(model).items() if built.get(key) != value}


def set_numbers(model: nn.Module, values: Mapping[str, float]) -> None:
    """Set the numbers that :func:`changed` took from a model of the same architecture."""
    for key, value in values.items():
        path, _, attribute = key.rpartition(".")
        setattr(model.get_submodule(path), attribute, value)
