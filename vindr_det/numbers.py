"""Columns of tables as numbers."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def to_numbers(column: pd.Series) -> NDArray[np.float64]:
    """(N,) of a column of any kind: NaN where there is no number, infinite where no float is so large."""
    try:
        return pd.to_numeric(column, errors="coerce").to_numpy(float)
    except OverflowError:  # pandas keeps whole numbers of hundreds of digits as Python's
        return pd.to_numeric(column.astype(str), errors="coerce").to_numpy(float)
