"""Figures on canvases of their own: without pyplot's global state and without a display.

Matplotlib is imported when a figure is made, since most runs make none.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vindr_det.files import atomic_path

log = logging.getLogger(__name__)

#: Behind the colors of findings, of which some are too light for white paper.
_FILM = "#202020"


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure.

    Args:
        width: in inches.
        height: in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Any, rows: int, columns: int, place: int) -> Any:
    """Axes without upper and right border, at a place of a grid that is counted from 1."""
    axes = figure.add_subplot(rows, columns, place)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def on_film(axes: Any) -> None:
    """Make axes as dark as a film, for the colors of :mod:`vindr_det.imaging.palette`."""
    axes.set_facecolor(_FILM)
    axes.grid(color="#404040", linewidth=0.6)
    axes.set_axisbelow(True)


def legend_right(axes: Any) -> None:
    """A legend beside the axes, where it covers no curve, on a ground as light or dark as theirs."""
    from matplotlib.colors import to_rgba

    dark = axes.get_facecolor() == to_rgba(_FILM)
    axes.legend(frameon=dark, framealpha=1, facecolor=axes.get_facecolor(), edgecolor="none",
                fontsize="small", labelcolor="white" if dark else "black", loc="upper left",
                bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


def legend_below(axes: Any) -> None:
    """A legend of two columns below the axes."""
    axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2,
                borderaxespad=0)


def legend_of_all(figure: Any) -> None:
    """A single legend below all axes, of every name that they have."""
    lines = {name: handle for axes in figure.axes
             for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    if lines:
        figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=min(5, len(lines)),
                      frameon=False)


def palette(count: int) -> list[Any]:
    """Colors that differ: the dark and then the light ones of matplotlib's table of twenty."""
    from matplotlib import colormaps

    table = [colormaps["tab20"](place) for place in (*range(0, 20, 2), *range(1, 20, 2))]
    return [table[place % len(table)] for place in range(count)]


def write_figure(path: str | Path, figure: Any, dpi: int = 100) -> None:
    """Write a PNG whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def try_figure(path: str | Path, draw: Callable[[], Any]) -> None:
    """Draw and write the picture of a training, to which a failure is a warning and costs nothing."""
    try:
        write_figure(path, draw())
    except Exception as error:
        log.warning("%s was not written (%s: %s)", path, type(error).__name__, error)
