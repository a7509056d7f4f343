"""The same tensor's name in Detectron2's and in torchvision's networks.

Pyramid levels are counted from 0 in torchvision and from the first level's stride, 2 or 3, in Detectron2.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

_TO_DETECTRON2 = (
    (r"^(conv1|bn1)\b", r"stem.\1"),
    (r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}"),
    (r"\bbn(\d)\b", r"conv\1.norm"),
    (r"downsample\.0", "shortcut"),
    (r"downsample\.1", "shortcut.norm"),
)
_TO_TORCHVISION = (
    (r"^stem\.", ""),
    (r"^res(\d)", lambda m: f"layer{int(m[1]) - 1}"),
    (r"\bconv(\d)\.norm\b", r"bn\1"),
    (r"shortcut\.norm", "downsample.1"),
    (r"shortcut", "downsample.0"),
)
#: Names of a body in Detectron2 and in torchvision.
_BODIES = "backbone.bottom_up.", "backbone.body."


def detectron2_name(key: str) -> str:
    """Name in Detectron2's ResNet of a parameter of torchvision's ResNet."""
    return _substituted(key, _TO_DETECTRON2)


def torchvision_name(key: str) -> str:
    """Name in torchvision's ResNet of a parameter of Detectron2's ResNet."""
    return _substituted(key, _TO_TORCHVISION)


def _substituted(key: str, patterns: tuple[tuple[str, Any], ...]) -> str:
    if key.startswith("net."):  # timm's names are the same in both engines
        return key
    for pattern, name in patterns:
        key = re.sub(pattern, name, key)
    return key


def to_detectron2(names: Collection[str], first_level: int) -> dict[str, str]:
    """Names in torchvision's detectors, each with that in Detectron2's; others stay as they are.

    Args:
        names: of a state dict.
        first_level: of the pyramid, 2 or 3.
    """
    modules = {theirs: ours for ours, theirs in _modules(first_level).items()}
    return {name: _renamed(name, modules, _BODIES[1], _BODIES[0], _TO_DETECTRON2) for name in names}


def to_torchvision(names: Collection[str], first_level: int) -> dict[str, str]:
    """Names in Detectron2's detectors, each with that in torchvision's; others stay as they are.

    Args:
        names: of a state dict.
        first_level: of the pyramid of the torchvision network, 2 or 3.
    """
    modules = _modules(first_level)
    return {name: _renamed(name, modules, *_BODIES, _TO_TORCHVISION) for name in names}


def _renamed(
    name: str, modules: Mapping[str, str], body: str, to_body: str, patterns: tuple[tuple[str, Any], ...]
) -> str:
    if name.startswith(body):
        return to_body + _substituted(name.removeprefix(body), patterns)
    module, _, parameter = name.rpartition(".")
    return f"{modules[module]}.{parameter}" if module in modules else name


def _modules(first_level: int) -> dict[str, str]:
    """Modules with parameters outside of the body: Detectron2's name -> torchvision's."""
    modules = {
        "backbone.top_block.p6": "backbone.fpn.extra_blocks.p6",
        "backbone.top_block.p7": "backbone.fpn.extra_blocks.p7",
        "proposal_generator.rpn_head.conv": "rpn.head.conv.0.0",
        "proposal_generator.rpn_head.objectness_logits": "rpn.head.cls_logits",
        "proposal_generator.rpn_head.anchor_deltas": "rpn.head.bbox_pred",
        "roi_heads.mask_head.deconv": "roi_heads.mask_predictor.conv5_mask",
        "roi_heads.mask_head.predictor": "roi_heads.mask_predictor.mask_fcn_logits",
        "head.cls_score": "head.classification_head.cls_logits",
        "head.bbox_pred": "head.regression_head.bbox_reg",
    }
    for index, level in enumerate(range(first_level, 6)):
        modules[f"backbone.fpn_lateral{level}"] = f"backbone.fpn.inner_blocks.{index}.0"
        modules[f"backbone.fpn_output{level}"] = f"backbone.fpn.layer_blocks.{index}.0"
    for index in range(4):
        modules[f"roi_heads.box_head.fc{index + 1}"] = f"roi_heads.box_head.{2 * index + 1}"
        modules[f"roi_heads.mask_head.mask_fcn{index + 1}"] = f"roi_heads.mask_head.{index}.0"
        modules[f"head.cls_subnet.{2 * index}"] = f"head.classification_head.conv.{index}.0"
        modules[f"head.bbox_subnet.{2 * index}"] = f"head.regression_head.conv.{index}.0"
    return modules


def first_level(names: Collection[str]) -> int:
    """First level of the pyramid of torchvision's detector with these names: R-CNNs have four."""
    return 2 if "backbone.fpn.inner_blocks.3.0.weight" in names else 3


def current_layout(names: Collection[str]) -> dict[str, str]:
    """Names in torchvision's detectors, of any version, each with that in today's :func:`build_model`.

    torchvision's published files have the names of version 0.4 or so; its own modules rename them when they
    load a state dict. Box heads are ``fc6`` and ``fc7`` there, and a plain sequence here.
    """
    patterns: list[tuple[str, Any]] = [
        (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
        (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
        (r"^roi_heads\.box_head\.fc([67])\.", lambda m: f"roi_heads.box_head.{2 * int(m[1]) - 11}."),
        (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0."),
    ]
    if not any("bbox_ctrness" in name for name in names):  # FCOS has norms between, and no other layout
        patterns.append((r"^(head\.\w+_head\.conv)\.(\d)\.(weight|bias)$",
                         lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}"))
    return {name: _substituted(name, tuple(patterns)) for name in names}


def match_suffixes(state: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """A state dict in a model's names, where its own are the ends of these, such as ``res2.0.conv1.weight``.

    Detectron2 matches files of its zoo's backbones so: each of the model's names takes the longest.
    """
    sources: dict[str, str] = {}
    for name in own:
        parts = name.split(".")
        ends = (".".join(parts[start:]) for start in range(len(parts)))
        if end := next((end for end in ends if end in state), ""):
            sources[name] = end
    rest = set(state).difference(sources.values())
    return {name: state[end] for name, end in sources.items()} | {key: state[key] for key in rest}
