"""The section of the annotated images: classes, sizes, readers, findings that occur together."""

import numpy as np
import pandas as pd

from vindr_det.data.statistics import Overview, describe, describe_records, named_tables
from vindr_det.imaging.palette import code_of
from vindr_det.report.blocks import BarChart, Block, MatrixChart, Section, Table
from vindr_det.report.sources import Sources

#: Tables of the overview that the page shows as they are.
_TABLES = ("classes", "boxes_per_image", "sizes", "readers")


def data_section(sources: Sources) -> Section | None:
    """The overview of the truth; None where there is none.

    Raises:
        InputError: the annotations have two label sets.
    """
    if sources.records is None:
        return None
    overview = _overview(sources)
    counts = {str(name): float(value) for name, value in overview.classes["images"].items()}
    blocks: list[Block] = [
        BarChart(
            "Images per class",
            "A bar per class; the table below has the same values.",
            "images",
            counts,
            {name: code_of(at) for at, name in enumerate(counts)},
        )
    ]
    titles = {name: title for name, title, _ in named_tables(overview)}
    blocks += [Table.of_frame(titles[name], _whole(table.reset_index())) for name in _TABLES
               if name in titles and len(table := getattr(overview, name))]
    if overview.co_occurrence.to_numpy().size:
        blocks.append(
            _shares(
                "Findings that occur together",
                "Share of the images with the row's finding that show the column's too.",
                overview.co_occurrence,
            )
        )
    if len(overview.agreement):
        blocks.append(_shares("Agreement of two readers", "F1 of their boxes of one class with IoU > .4, on "
                              "abnormal images that both read.", overview.agreement))
    return Section("data", "Data", blocks)


def _overview(sources: Sources) -> Overview:
    if sources.frame is not None and sources.sizes is not None:
        return describe(sources.frame, sources.sizes)
    return describe_records(sources.records or [], what=str(sources.request.annotations))


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    """With counts as whole numbers."""
    return frame.astype({name: object for name in frame if frame[name].dtype.kind == "i"})


def _shares(title: str, description: str, table: pd.DataFrame) -> MatrixChart:
    values = table.to_numpy(float)
    return MatrixChart(title, description, "row", "column", [str(name) for name in table.index],
                       [str(name) for name in table], np.nan_to_num(values), values)
