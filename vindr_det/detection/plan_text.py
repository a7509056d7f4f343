"""Planned settings as YAML with a comment above each key, and as a table."""

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from vindr_det.detection.plan import Setting

_WIDTH = 108


def settings_table(settings: Sequence[Setting]) -> pd.DataFrame:
    """A row per setting: key, value as JSON, reason."""
    return pd.DataFrame([(setting.key, json.dumps(setting.value, ensure_ascii=False), setting.reason)
                         for setting in settings], columns=["key", "value", "reason"])


def as_yaml(settings: Sequence[Setting], head: Sequence[str] = (), base: str = "") -> str:
    """Settings as a config, each below a comment with its reason where it has one of its own.

    Args:
        settings: the keys.
        head: lines of comment at the top.
        base: ``_BASE_``; empty for none.
    """
    lines = [line for text in head for line in _comment(text, "")]
    lines += [f"_BASE_: {json.dumps(base, ensure_ascii=False)}"] if base else []
    return "\n".join([*lines, *_node(_tree(settings), "")]) + "\n"


def _tree(settings: Sequence[Setting]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for setting in settings:
        *nodes, key = setting.key.split(".")
        node = tree
        for name in nodes:
            node = node.setdefault(name, {})
        node[key] = setting
    return tree


def _node(tree: dict[str, Any], indent: str) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _node(value, indent + "  ")
        else:
            yield from _comment(value.reason, indent) if value.reason else ()
            yield f"{indent}{key}: {json.dumps(value.value, ensure_ascii=False)}"


def _comment(text: str, indent: str) -> list[str]:
    if text.startswith("  ") or not text:
        return [f"{indent}# {text}".rstrip()]
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ",
                         break_long_words=False, break_on_hyphens=False)
