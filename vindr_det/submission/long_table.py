"""Detections as a table with a row per box, for every label set: what other sets than VinBigData's have
instead of the competition's form, which knows its class ids alone.

Columns are ``image_id``, ``label_set``, ``class_name``, ``score`` and the box, ``x_min,y_min,x_max,y_max`` in
original pixels; more columns, as ``S.predictions.csv`` has them, are not read. "No finding", where it is a
class, has the box ``0 0 1 1``. An image without boxes has no row: whether it was read is in the status table
beside the file.
"""

import difflib
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.files import read_bytes
from vindr_det.metrics.matching import Table
from vindr_det.structures.detections import Predictions, PredictionSet, label_set_of
from vindr_det.structures.label_sets import LABEL_SETS, NO_FINDING_BOX, LabelSet
from vindr_det.submission.check import check_detections
from vindr_det.tables import csv_row, header_of, letters_of, read_csv, refuse_first, to_numbers

_EDGES = ("x_min", "y_min", "x_max", "y_max")
COLUMNS = ("image_id", "label_set", "class_name", "score", *_EDGES)
