"""Boxes to the annotation tools in which radiologists correct them, and back.

These are Label Studio, CVAT and FiftyOne.
"""

from vindr_det.annotation_tools.exchange import FORMATS, read_corrected, write_tasks
from vindr_det.annotation_tools.tasks import Task

__all__ = ["FORMATS", "Task", "read_corrected", "write_tasks"]
