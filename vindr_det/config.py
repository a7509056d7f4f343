"""YAML files and ``KEY VALUE`` overrides over a schema: read, merged and checked.

The schema is an engine's: Detectron2's own keys or those of them that torchvision's models honor
(:mod:`vindr_det.detection.torchvision.config`), and the VINDR node (:mod:`vindr_det.config_schema`).
"""

import difflib
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from vindr_det.config_schema import CLASSES_UNDER, DETECTOR, best_metrics, label_set_of_config
from vindr_det.config_values import Check, above, one_of, refuse_values, value_of
from vindr_det.exceptions import InputError
from vindr_det.files import existing_file
from vindr_det.shipped import config_path
from vindr_det.structures.label_sets import VINBIGDATA

#: Keys of texts that may be given as a list too.
_LISTS = ("TARGET",)
_BEST = "VINDR.BEST_METRIC"


def requested_engine(path: str | Path, overrides: Sequence[str] = ()) -> str:
    """The engine that a config and its overrides ask for: a name or ``auto``."""
    node = load_yaml(path).get("VINDR")
    wanted = node.get("ENGINE", "auto") if isinstance(node, dict) else "auto"
    for key, value in _pairs(overrides):
        wanted = value if key == "VINDR.ENGINE" else wanted
    return str(wanted)


def read_config(schema: CfgNode, engine: str, path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a YAML file on top of an engine's defaults, then ``KEY VALUE`` overrides.

    Args:
        schema: the engine's defaults; they are changed.
        engine: its name.
        path: the YAML file.
        overrides: keys and values in turn.

    Raises:
        InputError: names the file, the key, the value and what was expected.
    """
    merge_yaml(schema, path, f"{engine} engine")
    merge_overrides(schema, overrides, f"{engine} engine")
    schema.VINDR.ENGINE = engine
    given = {key for key, _ in _pairs(overrides)}
    follow_label_set(schema, given)
    if given & {_class_count(schema), _BEST}:
        check_label_set(schema, "command line")
    check(schema, str(path))
    return schema


def config_from_text(text: str, schema: CfgNode, source: str) -> CfgNode:
    """The config that a checkpoint carries.

    Args:
        text: YAML with all keys of its version.
        schema: of its engine, from which keys come that the version did not have.
        source: names the checkpoint in errors.

    Raises:
        InputError: a key that the schema does not have.
    """
    cfg = schema.clone()
    data = yaml.safe_load(text)
    _merge(cfg, data, f"{(data.get('VINDR') or {}).get('ENGINE', 'own')} engine", source)
    return cfg


def merge_yaml(cfg: CfgNode, path: str | Path, schema: str) -> None:
    """Put a YAML file (with ``_BASE_``) over a config; ``schema`` names it in errors."""
    _merge(cfg, load_yaml(path), schema, str(path))


def merge_overrides(
    cfg: CfgNode, overrides: Sequence[str], schema: str, checks: Mapping[str, Check] = DETECTOR
) -> None:
    """Put ``KEY VALUE`` pairs over a config, of values that pass the checks of their keys."""
    for key, value in _pairs(overrides):
        _override(cfg, key, value, schema)
        refuse_values(cfg, {key: checks[key]} if key in checks else {}, "command line")


def check(cfg: CfgNode, source: str) -> None:
    """Refuse values that could only fail later.

    Raises:
        InputError: names the source, the key, the value and what was expected.
    """
    check_label_set(cfg, source)
    refuse_values(cfg, DETECTOR, source)
    if cfg.VINDR.ENGINE == "torchvision":
        refuse_values(cfg, {"INPUT.MIN_SIZE_TEST": above(0)}, source)
    _check_steps(cfg.SOLVER, source)
    if cfg.VINDR.PATIENCE and not cfg.VINDR.VALIDATION:
        raise InputError(f"{source}: VINDR.PATIENCE is {cfg.VINDR.PATIENCE}, but VINDR.VALIDATION is empty; "
                         "expected 0 without validation")


def check_label_set(cfg: CfgNode, source: str) -> None:
    """Refuse what the label set contradicts.

    Raises:
        InputError: names the source, the key, the value and what was expected.
    """
    label_set = label_set_of_config(cfg)
    refuse_values(cfg, {_class_count(cfg): (lambda value: value == len(label_set),
                                            f"{len(label_set)} (the findings of {label_set.name})"),
                        _BEST: one_of(*best_metrics(label_set))}, source)


def _class_count(cfg: CfgNode) -> str:
    return CLASSES_UNDER.get(cfg.MODEL.META_ARCHITECTURE, "MODEL.ROI_HEADS.NUM_CLASSES")


def follow_label_set(cfg: CfgNode, given: Container[str] = ()) -> None:
    """Set what the label set decides, where the config has VinBigData's: NUM_CLASSES, VINDR.BEST_METRIC.

    Args:
        cfg: it is changed.
        given: keys that stay as they are, since the user chose their values for this label set.
    """
    label_set, key = label_set_of_config(cfg), _class_count(cfg)
    if key not in given and value_of(cfg, key) == len(VINBIGDATA):
        cfg.merge_from_list([key, len(label_set)])
    if _BEST not in given and VINBIGDATA.mean_ap == cfg.VINDR.BEST_METRIC:
        cfg.VINDR.BEST_METRIC = label_set.mean_ap


def _check_steps(solver: Any, source: str) -> None:
    """Detectron2 fails at steps that are not ascending, or that come with the last iteration."""
    steps = tuple(solver.STEPS)
    ascending = all(first < second for first, second in zip((0, *steps), steps, strict=False))
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR" and (not ascending or solver.MAX_ITER in steps):
        raise InputError(f"{source}: SOLVER.STEPS is {steps}, expected ascending iterations from 1 on, none "
                         f"of them SOLVER.MAX_ITER ({solver.MAX_ITER})")


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The keys that a YAML file and its ``_BASE_`` set, without an engine's defaults.

    Raises:
        InputError: not a YAML file of keys and values.
    """
    path = existing_file(config_path(path))
    try:
        data = CfgNode.load_yaml_with_base(str(path))
    except RecursionError as error:
        raise InputError(f"{path}: its _BASE_ leads back to itself") from error
    except (yaml.YAMLError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: its _BASE_ {error.filename} does not exist") from error
    if not isinstance(data or {}, dict):
        raise InputError(f"{path}: holds a {type(data).__name__}, expected keys and their values")
    return data or {}


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(overrides) % 2:
        raise InputError(f"overrides {' '.join(overrides)!r}: expected KEY VALUE pairs")
    return zip(overrides[::2], overrides[1::2], strict=True)


def _override(cfg: CfgNode, key: str, value: str, schema: str) -> None:
    if key not in set(_keys(cfg)):
        raise InputError(unknown_key("command line", key, cfg, schema))
    node = cfg
    for part in key.split("."):
        node = node[part]
    if isinstance(node, float) and re.fullmatch(r"[-+]?\d+", value):
        value += ".0"  # the schema has a float
    if key.endswith(_LISTS) and value.startswith("["):
        value = _with_commas(yaml.safe_load(value))
    try:
        cfg.merge_from_list([key, value])
    except (ValueError, AssertionError) as error:
        raise InputError(f"command line: {key} cannot be {value!r} ({error})") from error


def _merge(cfg: CfgNode, data: dict[str, Any], schema: str, source: str) -> None:
    known = set(_keys(cfg))
    for key in _keys(data):
        if key not in known:
            raise InputError(unknown_key(source, key, cfg, schema))
    _adapt(cfg, data)
    try:
        cfg.merge_from_other_cfg(type(cfg)(data))
    except (ValueError, AssertionError, KeyError) as error:
        raise InputError(f"{source}: {error}") from error


def _with_commas(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names))


def _adapt(cfg: Any, data: dict[str, Any]) -> None:
    """YAML's 1 where the schema has 1.0, and a list where it has a text with commas; the config library would
    refuse them."""
    for key, value in data.items():
        if isinstance(value, dict):
            _adapt(cfg[key], value)
        elif key in _LISTS and isinstance(value, list):
            data[key] = _with_commas(value)
        elif isinstance(cfg[key], float) and type(value) is int:
            data[key] = float(value)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full names of the leaves, and their values."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _keys(node: Any) -> Iterator[str]:
    return (key for key, _ in leaves(node))


def unknown_key(source: str, key: str, cfg: CfgNode, schema: str) -> str:
    """The message about a key that a schema does not have."""
    near = difflib.get_close_matches(key, list(_keys(cfg)), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{source}: key {key} does not exist for the {schema}{hint}"
