"""The overview of a table of image-level labels as PNG plots."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vindr_det.data.label_statistics import MAX_AGE, LabelOverview
from vindr_det.data.statistics_plots import DARK, SHADES, heat_map, write_plot


def plot_label_overview(overview: LabelOverview, out: str | Path) -> list[Path]:
    """Write one PNG per subject that the overview has; returns the files."""
    rows = 1.2 + 0.3 * np.array([len(overview.labels), len(overview.combinations), len(overview.together)])
    plots = {
        "labels": (overview.labels, _labels, (8, rows[0])),
        "combinations": (overview.combinations, _combinations, (9, rows[1])),
        "co_occurrence": (overview.co_occurrence, _co_occurrence, (2.5 + rows[2], 1.5 + rows[2])),
        "ages": (overview.ages, _ages, (8, 4)),
        "images_per_patient": (overview.images_per_patient, _images_per_patient, (8, 4)),
    }
    written = []
    for name, (table, draw, size) in plots.items():
        if len(table):
            written.append(Path(out) / f"{name}.png")
            write_plot(written[-1], draw, table, size)
    return written


def _labels(axes: Any, table: pd.DataFrame) -> None:
    table = table.sort_values("images")
    axes.barh(table.index, table["images"] - table["alone"], left=table["alone"], color=SHADES[1],
              label="with other labels")
    axes.barh(table.index, table["alone"], color=DARK, label="alone")
    _write_percent(axes, table)
    axes.set_title("Images with each label")
    axes.legend(frameon=False, loc="lower right")


def _write_percent(axes: Any, table: pd.DataFrame) -> None:
    for place, (images, percent) in enumerate(zip(table["images"], table["percent"], strict=True)):
        axes.annotate(f"{percent:.1f} %", (images, place), (4, 0), textcoords="offset points", va="center",
                      fontsize=8)
    axes.set_xlim(0, 1.1 * max(table["images"].max(), 1))
    axes.set_xlabel("images")


def _combinations(axes: Any, table: pd.DataFrame) -> None:
    table = table.iloc[::-1]
    axes.barh(table.index, table["images"], color=DARK)
    _write_percent(axes, table)
    axes.set_title("The most frequent combinations of labels")


def _co_occurrence(axes: Any, table: pd.DataFrame) -> None:
    heat_map(axes, table.mask(np.eye(len(table), dtype=bool)), "{:.2f}")
    axes.set_title("Of the images with the row's finding,\nthe share that show the column's too")


def _ages(axes: Any, table: pd.DataFrame) -> None:
    table = table[~((table["images"] == 0) & np.isin(table.index, ["none", f"over {MAX_AGE} (impossible)"]))]
    place = np.arange(len(table))
    kinds = [name for name in ("images", "patients") if name in table]
    for shift, name, color in zip((-0.2, 0.2), kinds, (SHADES[1], DARK), strict=False):
        axes.bar(place + shift, table[f"percent_of_{name}"], 0.4, color=color, label=name)
    axes.set_xticks(place, table.index, rotation=30, ha="right")
    axes.set_ylabel("percent")
    axes.set_title("Ages")
    axes.legend(frameon=False)


def _images_per_patient(axes: Any, table: pd.DataFrame) -> None:
    bars = axes.bar(table.index.astype(str), table["patients"], color=DARK)
    axes.bar_label(bars, padding=2, fontsize=8)
    axes.set_title("Patients by their number of images")
    axes.set_xlabel("images")
    axes.set_ylabel("patients")
