"""What a section of the page is made of: tables, charts, facts and notes, as plain values.

The page's template shows these and nothing else, so that no section writes HTML.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

#: Rows of a table that the page shows; the rest is in the file that it is from.
MAX_ROWS = 300
#: Where a value that is missing is sorted; infinity has another name in the page's script.
MISSING = -1e300
#: Points of a line; a screen has no more columns of pixels.
MAX_POINTS = 400


@dataclass(frozen=True)
class Cell:
    """A value of a table.

    Attributes:
        text: as it is shown.
        order: what its column is sorted by; None for the text.
    """

    text: str
    order: float | None = None

    @classmethod
    def of(cls, value: Any, digits: int = 3) -> "Cell":
        """A number with so many digits, whole numbers whole, "–" where there is nothing; else its text."""
        if value is None:
            return cls("–", MISSING)
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
            return cls(str(value))
        number = float(value)
        if math.isnan(number):
            return cls("–", MISSING)
        if isinstance(value, (int, np.integer)) or math.isinf(number):
            return cls(f"{value:,}", min(max(number, MISSING), -MISSING))
        text = f"{number:.2g}" if 0 < abs(number) < 10.0 ** -digits else f"{number:.{digits}f}"
        return cls(text if abs(number) < 1000 else f"{number:,.0f}", number)


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        title: of the table.
        columns: headers.
        rows: a cell per column.
        note: below the table.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    @classmethod
    def of_frame(cls, title: str, frame: pd.DataFrame, note: str = "") -> "Table":
        """A table of a data frame, as far as :data:`MAX_ROWS`."""
        shown = frame.head(MAX_ROWS)
        rows = [[Cell.of(value) for value in row] for row in shown.astype(object).to_numpy().tolist()]
        cut = f"The first {len(shown)} of {len(frame)} rows. " if len(shown) < len(frame) else ""
        return cls(title, [str(name).replace("_", " ") for name in frame], rows, cut + note)


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: in the legend.
        points: (N, 2).
        color: ``#rrggbb``.
        width: of the line, pixels.
        dashed: whether the line is.
        marked: whether its points are.
    """

    name: str
    points: Any
    color: str
    width: float = 1.6
    dashed: bool = False
    marked: bool = False

    def as_json(self) -> dict[str, Any]:
        """Its points without those that are not finite, thinned to :data:`MAX_POINTS`."""
        points = np.asarray(self.points, dtype=float).reshape(-1, 2)
        points = points[np.isfinite(points).all(axis=1)]
        if len(points) > MAX_POINTS:
            points = points[np.unique(np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(int))]
        return {"name": self.name, "points": [[float(f"{x:.5g}"), float(f"{y:.5g}")] for x, y in
                                              points.tolist()],
                "color": self.color, "width": self.width, "dashed": self.dashed, "marked": self.marked}


@dataclass(frozen=True)
class LineChart:
    """Lines over two axes.

    Attributes:
        title: of the chart.
        description: what it shows, for who does not see it.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        series: the lines.
        x_range: of the horizontal axis; None fits the lines.
        y_range: likewise.
        film: on a ground as dark as a film, for the findings' colors.
        log_x: whether the horizontal axis is logarithmic.
        diagonal: with a line of chance, or of what is ideal.
    """

    kind: ClassVar[str] = "lines"
    title: str
    description: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    film: bool = False
    log_x: bool = False
    diagonal: bool = False

    def as_json(self) -> dict[str, Any]:
        """What the page draws."""
        return {"kind": self.kind, "title": self.title, "description": self.description, "x": self.x_label,
                "y": self.y_label, "xRange": self.x_range, "yRange": self.y_range, "film": self.film,
                "logX": self.log_x, "diagonal": self.diagonal,
                "series": [line.as_json() for line in self.series]}


@dataclass(frozen=True)
class BarChart:
    """A bar per name, with its interval where there is one.

    Attributes:
        title: of the chart.
        description: what it shows.
        label: of the values' axis.
        bars: name -> value.
        colors: name -> ``#rrggbb``; others are gray.
        intervals: name -> (low, high).
    """

    kind: ClassVar[str] = "bars"
    title: str
    description: str
    label: str
    bars: Mapping[str, float]
    colors: Mapping[str, str] = field(default_factory=dict)
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What the page draws."""
        bars = [{"name": name, "value": None if math.isnan(value) else value, "color": self.colors.get(name),
                 "interval": list(self.intervals[name]) if name in self.intervals else None}
                for name, value in self.bars.items()]
        return {"kind": self.kind, "title": self.title, "description": self.description, "label": self.label,
                "bars": bars}


@dataclass(frozen=True)
class MatrixChart:
    """Counts or shares of rows by columns, colored by their share of the row.

    Attributes:
        title: of the chart.
        description: what it shows.
        row_label: what the rows are.
        column_label: what the columns are.
        rows: names.
        columns: names.
        values: (R, C), NaN for nothing.
        shares: (R, C) 0..1 of the colors.
    """

    kind: ClassVar[str] = "matrix"
    title: str
    description: str
    row_label: str
    column_label: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Any
    shares: Any

    @property
    def cells(self) -> list[list[dict[str, Any]]]:
        """Text and share in percent of each cell."""
        values, shares = np.asarray(self.values), np.nan_to_num(np.asarray(self.shares, dtype=float))
        return [[{"text": "" if not value or value != value else Cell.of(value, 2).text,
                  "share": round(float(share) * 100)} for value, share in zip(row, part, strict=True)]
                for row, part in zip(values.tolist(), shares.tolist(), strict=True)]


@dataclass(frozen=True)
class Facts:
    """Names and values, such as large figures.

    Attributes:
        items: name, value, and what stands below the value.
        large: whether they are the figures that a reader looks for first.
        title: above them; empty for none.
    """

    kind: ClassVar[str] = "facts"
    items: Sequence[tuple[str, str, str]]
    large: bool = False
    title: str = ""


@dataclass(frozen=True)
class Text:
    """Text as it is, such as a config.

    Attributes:
        title: of the text.
        text: its lines.
    """

    kind: ClassVar[str] = "text"
    title: str
    text: str


Block = Table | LineChart | BarChart | MatrixChart | Facts | Text


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and an entry in its contents.

    Attributes:
        name: of its anchor.
        title: the heading.
        blocks: in order.
        notes: sentences below the heading.
    """

    name: str
    title: str
    blocks: Sequence[Block]
    notes: Sequence[str] = ()


def interval_text(values: Mapping[str, Any], key: str) -> str:
    """``95 %: .10 to .20`` of a metric; empty where it has no interval."""
    bounds = values.get(f"{key}/ci95")
    return f"95 %: {bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""


def score_cell(values: Mapping[str, Any], key: str) -> Cell:
    """A metric with its interval, if it has any."""
    value = values.get(key)
    cell = Cell.of(math.nan if value is None else float(value))
    bounds = values.get(f"{key}/ci95")
    return Cell(f"{cell.text} [{bounds[0]:.3f}, {bounds[1]:.3f}]", cell.order) if bounds else cell
