"""ResNet-56 v2 of Keras' CIFAR example as a network of timm's, ``MODEL.NAME: resnet56v2``.

Three stages of six pre-activation bottlenecks at strides 1, 2 and 4 (He et al., "Identity mappings in deep
residual networks", 2016): with one channel of 128 px and 14 labels 1,728,238 parameters as Keras counts them,
10,400 of them the norms' moving statistics. Its head averages cells of 8 x 8 features and keeps their grid,
so the number of its weights depends on INPUT.SIZE; ``MODEL.POOL: avg`` averages all features instead. No
pretrained weights exist.
"""

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

#: Units of each stage, and the stages' inner widths and outputs.
_UNITS, _WIDTHS, _OUTPUTS, _STEM = 6, (16, 64, 128), (64, 128, 256), 16
#: Side of the cells that the head averages, and the stride of the last features.
_CELL, _STRIDE = 8, 4
#: Of a normal distribution that is cut off at twice its standard deviation.
_TRUNCATED_STD = 0.87962566103423978


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Unit(nn.Module):
    """A bottleneck: norm and ReLU before each convolution, and nothing after the sum.

    Args:
        inputs: channels.
        inner: channels of the 3 x 3 convolution.
        outputs: channels.
        stride: of the first convolution.
        projected: the shortcut is a 1 x 1 convolution of the raw input.
        activated: norm and ReLU before the first convolution.
    """

    def __init__(
        self, inputs: int, inner: int, outputs: int, stride: int, projected: bool, activated: bool
    ) -> None:
        super().__init__()
        before = [_norm(inputs), nn.ReLU()] if activated else []
        self.body = nn.Sequential(
            *before, nn.Conv2d(inputs, inner, 1, stride),
            _norm(inner), nn.ReLU(), nn.Conv2d(inner, inner, 3, padding=1),
            _norm(inner), nn.ReLU(), nn.Conv2d(inner, outputs, 1))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return self.shortcut(x) + self.body(x)


def _stage(number: int) -> nn.Sequential:
    inputs = (_STEM, *_OUTPUTS)[number]
    first = Unit(inputs, _WIDTHS[number], _OUTPUTS[number], 1 if number == 0 else 2, True, number > 0)
    others = (Unit(_OUTPUTS[number], _WIDTHS[number], _OUTPUTS[number], 1, False, True)
              for _ in range(_UNITS - 1))
    return nn.Sequential(first, *others)


class ResNet56V2(nn.Module):
    """The network, with timm's interface.

    Args:
        num_classes: labels.
        in_chans: channels of the images.
        global_pool: empty for the grid of 8 x 8 cells, ``avg`` for a single mean.
        drop_rate: before the last layer.
        img_size: side of the images, pixels; the grid's head depends on it.

    Raises:
        NotImplementedError: another kind of pooling, or a size that 32 does not divide.
    """

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "", drop_rate: float = 0.0,
        img_size: int = 128,
    ) -> None:
        super().__init__()
        if global_pool not in ("", "avg"):
            raise NotImplementedError(f"resnet56v2 has no pooling {global_pool!r}")
        if not global_pool and img_size % (_CELL * _STRIDE):
            raise NotImplementedError(f"resnet56v2 pools cells of {_CELL * _STRIDE} pixels, which do not "
                                      f"divide INPUT.SIZE {img_size}")
        self.num_classes, self.drop_rate, self.in_chans = num_classes, drop_rate, in_chans
        self.stem = nn.Sequential(nn.Conv2d(in_chans, _STEM, 3, padding=1), _norm(_STEM), nn.ReLU())
        self.stages = nn.Sequential(*(_stage(number) for number in range(3)))
        self.norm, self.activation = _norm(_OUTPUTS[-1]), nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1) if global_pool else nn.AvgPool2d(_CELL)
        cells = 1 if global_pool else (img_size // (_CELL * _STRIDE)) ** 2
        self.num_features = self.head_hidden_size = _OUTPUTS[-1]
        self.head = nn.Linear(_OUTPUTS[-1] * cells, num_classes)
        self.feature_info = [
            {"num_chs": channels, "reduction": 2**number, "module": f"stages.{number}"}
            for number, channels in enumerate(_OUTPUTS[:-1])
        ] + [{"num_chs": _OUTPUTS[-1], "reduction": _STRIDE, "module": "activation"}]
        self.apply(_initialize)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, S, S) images to (B, 256, S / 4, S / 4) features."""
        return self.activation(self.norm(self.stages(self.stem(x))))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to (B, num_classes) logits, or to what the last layer gets."""
        pooled = nn.functional.dropout(self.pool(x).flatten(1), self.drop_rate, self.training)
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, S, S) images to (B, num_classes) logits."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer."""
        self.num_classes, self.head = num_classes, nn.Linear(self.head.in_features, num_classes)


@torch.no_grad()
def _initialize(module: nn.Module) -> None:
    """He's initialization as Keras has it: a truncated normal distribution, by the number of inputs."""
    if isinstance(module, nn.Conv2d):
        inputs = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
        std = (2 / inputs) ** 0.5 / _TRUNCATED_STD
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)


default_cfgs = generate_default_cfgs({"resnet56v2.untrained": {
    "input_size": (3, 128, 128), "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "pool_size": (32, 32),
    "num_classes": 1000, "first_conv": "stem.0", "classifier": "head"}})


@register_model
def resnet56v2(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-56 v2; ``options`` are those of :class:`ResNet56V2`."""
    return build_model_with_cfg(ResNet56V2, "resnet56v2", pretrained,
                                feature_cfg={"out_indices": (0, 1, 2), "flatten_sequential": True}, **options)
