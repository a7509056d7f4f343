"""The overview of a data set as PNG plots."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vindr_det.data.statistics import Overview
from vindr_det.figures import add_axes, new_figure, write_figure

#: Colors of bars.
DARK, SHADES = "#1f4e79", ("#c9d8e8", "#7fa6cc", "#1f4e79", "#12304b")


def plot_overview(overview: Overview, out: str | Path) -> list[Path]:
    """Write one PNG per subject that is known; returns the files."""
    plots = {
        "classes": (_classes, (9, 5)), "boxes_per_image": (_boxes_per_image, (7, 4)),
        "shapes": (_shapes, (6, 5.5)), "readers": (_readers, (8, 4)),
        "agreement": (_agreement, (9, 8)), "co_occurrence": (_co_occurrence, (9, 8)),
    }
    written = []
    for name, (draw, size) in plots.items():
        if name in ("readers", "agreement") and overview.readers.empty:
            continue
        written.append(Path(out) / f"{name}.png")
        write_plot(written[-1], draw, overview, size)
    return written


def write_plot(
    path: Path, draw: Callable[[Any, Any], None], subject: Any, size: tuple[float, float]
) -> None:
    """Write a plot of a single pair of axes as PNG.

    Args:
        path: of the PNG.
        draw: takes the axes and ``subject``.
        subject: what is drawn.
        size: width and height, inches.
    """
    figure = new_figure(*size)
    draw(add_axes(figure, 1, 1, 1), subject)
    write_figure(path, figure, dpi=110)


def _classes(axes: Any, overview: Overview) -> None:
    fused = "consensus_boxes" in overview.classes
    table = overview.classes.loc[list(overview.fingerprint.label_set.findings)]
    table = table.sort_values("consensus_boxes" if fused else "boxes")
    start = np.zeros(len(table))
    counts = [name for name in table if name.startswith("by_")]
    if not counts:
        axes.barh(table.index, table["consensus_boxes" if fused else "boxes"], color=DARK)
    for shade, name in zip(SHADES * len(counts), counts, strict=False):
        readers = name.removeprefix("by_")
        axes.barh(table.index, table[name], left=start, color=shade,
                  label=f"{readers} reader" + ("" if readers == "1" else "s"))
        start = start + table[name].to_numpy()
    axes.set_title("Consensus boxes, by how many readers drew them" if counts else "Boxes")
    axes.set_xlabel("boxes")
    if counts:
        axes.legend(frameon=False, loc="lower right")


def _boxes_per_image(axes: Any, overview: Overview) -> None:
    counts = overview.boxes_per_image["images"].drop(index=0, errors="ignore")
    axes.bar(counts.index, counts.to_numpy(), color=DARK)
    normal = overview.boxes_per_image["images"].get(0, 0)
    fused = "consensus_boxes" in overview.classes
    axes.set_title(f"Consensus boxes on each abnormal image ({normal} normal images left out)" if fused else
                   f"Boxes on each image that has any ({normal} images left out)")
    axes.set_xlabel("boxes")
    axes.set_ylabel("images")


def _shapes(axes: Any, overview: Overview) -> None:
    shapes = overview.shapes
    image = axes.hexbin(shapes["width"], shapes["height"], gridsize=40, bins="log", mincnt=1,
                        cmap="Blues")
    axes.figure.colorbar(image, ax=axes, label="images")
    low, high = shapes.to_numpy().min(), shapes.to_numpy().max()
    axes.plot([low, high], [low, high], color="gray", linewidth=0.8, linestyle="--")
    axes.set_title("Sizes of the images (dashed: square)")
    axes.set_xlabel("width, pixels")
    axes.set_ylabel("height, pixels")


def _readers(axes: Any, overview: Overview) -> None:
    table, place = overview.readers, np.arange(len(overview.readers))
    axes.bar(place - 0.2, table["images"], 0.4, color=SHADES[0], label="images read")
    axes.bar(place + 0.2, table["boxes"], 0.4, color=DARK, label="boxes drawn")
    axes.set_xticks(place, table.index)
    axes.set_title("Readers")
    axes.legend(frameon=False)


def _agreement(axes: Any, overview: Overview) -> None:
    heat_map(axes, overview.agreement, "{:.2f}")
    axes.set_title("Agreement of two readers: F1 of boxes of one class, IoU > .4")


def _co_occurrence(axes: Any, overview: Overview) -> None:
    table = overview.co_occurrence
    heat_map(axes, table.mask(np.eye(len(table), dtype=bool)), "{:.2f}")
    axes.set_title("Of the images with the row's finding, the share that show the column's too")


def heat_map(axes: Any, table: pd.DataFrame, pattern: str) -> None:
    """Draw values of 0..1 as colors, with the values that are finite written by ``pattern``."""
    values = table.to_numpy(float)
    if not np.isfinite(values).any():
        axes.text(0.5, 0.5, "nothing to show", ha="center")
        return
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=60, ha="right")
    axes.set_yticks(range(len(table)), table.index)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(column, row, pattern.format(value), ha="center", va="center", fontsize=7,
                      color="white" if value > 0.5 else "black")
