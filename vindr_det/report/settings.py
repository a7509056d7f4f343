"""Sections of what was chosen by measuring: the gate, and ledgers of searches, ablations or folds."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vindr_det.exceptions import InputError
from vindr_det.files import read_json
from vindr_det.report.blocks import BarChart, Block, Cell, Facts, Section, Table
from vindr_det.tables import read_csv


def gate_section(path: str | None) -> Section | None:
    """The gate of ``vindr-det gate fit`` with all forms, or the result of ``vindr-det tune``; None without.

    Raises:
        InputError: the file is neither.
    """
    if path is None:
        return None
    data = read_json(path)
    try:
        return _fitted(data) if "forms" in data else _tuned(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: neither a gate of vindr-det gate fit nor a result of vindr-det tune"
        ) from error


def _fitted(data: Mapping[str, Any]) -> Section:
    forms: Mapping[str, Any] = data["forms"]
    rows = [[Cell(form), Cell(_parameters(of["gate"])), Cell.of(float(of["mAP40"])),
             Cell(f"{of['gain']:+.4f} [{of['ci95'][0]:+.4f}, {of['ci95'][1]:+.4f}]", float(of["gain"])),
             Cell(f"{of['wins']:.0%}", float(of["wins"]))] for form, of in forms.items()]
    chart = BarChart(
        "mAP of each form, each fold gated by the others",
        "A bar per form; the table below has the same values.",
        "mAP at IoU > .4",
        {form: float(of["mAP40"]) for form, of in forms.items()},
    )
    chosen = ("gate", data["gate"]["form"], _parameters(data["gate"]))
    return Section("gate", "Gate", [
        Facts([chosen, ("AUC of P(abnormal)", f"{data['auc']:.4f}", "on the images that it was fitted on")],
              large=True),
        chart, Table("Forms", ["form", "parameters", "mAP", "gain over none [95 %]", "wins"], rows)])


def _tuned(data: Mapping[str, Any]) -> Section:
    held_out, gate = data["held_out"], data["gate"]
    low, high = held_out["ci95"]
    facts = [("defaults", f"{held_out['default']:.4f}", "mAP on the holdout split"),
             ("tuned", f"{held_out['tuned']:.4f}", "mAP on the holdout split"),
             ("gain", f"{held_out['gain']:+.4f}", f"95 %: {low:+.4f} to {high:+.4f}")]
    settings = [("fusion", _parameters(data["fusion"] or {}) or "none", ""),
                ("gate", f"{gate['form']} {_parameters(gate)}" if gate else "none", ""),
                ("trials", f"{data['trials']:,}", ""), ("reports on these images", str(held_out["uses"]), "")]
    return Section("gate", "Tuned settings", [Facts(facts, large=True), Facts(settings)])


def _parameters(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in values.items() if name != "form" and value is not None)


def ledger_section(paths: tuple[str, ...]) -> Section | None:
    """Tables of trials, ablations or folds as they are; None without any.

    Raises:
        InputError: a file is no table, or is empty.
    """
    blocks: list[Block] = []
    for path in paths:
        frame = read_csv(path)
        if not len(frame):
            raise InputError(f"{path}: has no row, expected a table of trials, ablations or folds")
        blocks.append(Table.of_frame(Path(path).name, frame.where(frame.notna(), math.nan)))
    return Section("ledger", "Ledger", blocks) if blocks else None
