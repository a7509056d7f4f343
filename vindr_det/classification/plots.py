"""Reliability diagrams as PNG (DeGroot and Fienberg, 1983)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.files import atomic_path

_COLORS = ("#c06020", "#1f4e79", "#558b2f")


def reliability_plot(
    curves: Mapping[str, Mapping[str, NDArray[np.float64]]], path: str | Path
) -> None:
    """One diagram a label.

    Args:
        curves: label -> what is drawn in it -> (bins, 3) of
            :func:`vindr_det.metrics.calibration.reliability`.
        path: of the PNG.
    """
    # The canvas of its own keeps matplotlib's global state, and any display, out of it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(curves))
    lines = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(0.6 + 3.2 * columns, 0.4 + 3.2 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (label, parts) in enumerate(curves.items(), start=1):
        _diagram(figure.add_subplot(lines, columns, place), label, parts)
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, dpi=100)


def _diagram(axes: Any, label: str, parts: Mapping[str, NDArray[np.float64]]) -> None:
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
    for color, (name, table) in zip(_COLORS, parts.items(), strict=False):
        said, happened, count = table[table[:, 2] > 0].T
        axes.plot(said, happened, color=color, linewidth=1, label=name)
        axes.scatter(said, happened, s=6 + 60 * count / count.sum(), color=color)
    axes.set(title=label, xlim=(0, 1), ylim=(0, 1), xlabel="predicted", ylabel="share of positives")
    axes.legend(frameon=False, fontsize="small", loc="upper left")
