"""What a report's files hold, read once for all of its sections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from vindr_det.classification.label_table import read_identities
from vindr_det.data.truth import read_truth
from vindr_det.data.vinbigdata import furthest_corners, read_annotations, to_records
from vindr_det.evaluation.readers import split_readers
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json
from vindr_det.imaging.sizes import read_sizes
from vindr_det.imaging.status import FAILED, Status, read_statuses
from vindr_det.metrics.metric import MatchedPredictions
from vindr_det.report.request import ReportRequest
from vindr_det.structures.detections import PredictionSet, label_set_of
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record, label_set_of_records
from vindr_det.submission import read_submission, refuse_other_frame

#: What a report says of an image that has no row in the predictions: it failed by the status table, it was
#: not predicted, or the file, which may leave out images without boxes, does not tell.
NOT_READ, NO_PREDICTION, NO_BOX = "not read", "no prediction", "no box"


@dataclass(frozen=True)
class Sources:
    """Predictions and truth of a report, with what is known of their images.

    Attributes:
        request: where they are from.
        predictions: image id -> detections; None where there are none.
        records: annotated images; None where there is no truth.
        frame: the table of several readers that the records are the consensus of; None for another truth.
        sizes: of ``--meta``; None without.
        statuses: image id -> its row in the status table beside the predictions.
    """

    request: ReportRequest
    predictions: PredictionSet | None = None
    records: list[Record] | None = None
    frame: pd.DataFrame | None = None
    sizes: pd.DataFrame | None = None
    statuses: Mapping[str, Status] = field(default_factory=dict)

    @cached_property
    def label_set(self) -> LabelSet | None:
        """Of the truth, or of the predictions; None without either."""
        if self.records is not None:
            return label_set_of_records(self.records)
        return None if self.predictions is None else label_set_of(self.predictions)

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the label set, in the order of their ids; empty without one."""
        return () if self.label_set is None else tuple(self.label_set.classes)

    @cached_property
    def matched(self) -> MatchedPredictions | None:
        """Predictions and truth, matched as all metrics take them; None where one of them is missing."""
        if self.predictions is None or self.records is None:
            return None
        return MatchedPredictions(self.predictions, self.records)

    @cached_property
    def readers(self) -> Mapping[str, PredictionSet]:
        """Reader -> image id -> boxes; empty where they are not known one by one."""
        return {} if self.frame is None else split_readers(self.frame)

    @cached_property
    def records_by_id(self) -> dict[str, Record]:
        """Image id -> its record; empty where there is no truth."""
        return {record.image_id: record for record in self.records or ()}

    def state(self, image_id: str) -> str:
        """:data:`NOT_READ`, :data:`NO_PREDICTION` or :data:`NO_BOX`; empty for an image that has a row."""
        if self.predictions is None:
            return ""
        status, boxes = self.statuses.get(image_id), self.predictions.get(image_id)
        if status is not None and status.status == FAILED:
            return NOT_READ
        if boxes is None:
            return NO_PREDICTION
        if len(boxes) or status is not None:
            return ""
        return NO_PREDICTION if self.statuses else NO_BOX

    def patients(self) -> dict[str, str] | None:
        """Image id -> patient of ``--patients``; None without.

        Raises:
            InputError: a damaged table, or an annotated image has no patient in it.
        """
        path = self.request.patients
        if path is None:
            return None
        table = read_identities(path)
        if table.group_kind != "patient":
            raise InputError(f"{path}: has no column of patients, expected image_id and patient")
        patients = dict(zip(table.image_ids.tolist(), table.groups.tolist(), strict=True))
        missing = [name for name in self.records_by_id if name not in patients]
        if missing:
            raise InputError(f"{path}: {len(missing)} images have no patient, the first is {missing[0]}")
        return patients


def read_sources(request: ReportRequest) -> Sources:
    """Predictions and truth of a request.

    Raises:
        InputError: a faulty file, truth without an image, or predictions of another label set.
    """
    sizes = read_sizes(request.meta) if request.meta else None
    records, frame = _truth(request, sizes)
    predictions, statuses = None, {}
    if request.predictions:
        if sizes is not None:
            refuse_other_frame(request.predictions, sizes)
        predictions = read_submission(request.predictions, annotations=request.annotations)
        statuses = read_statuses(request.predictions)
    return Sources(request, predictions, records, frame, sizes, statuses)


def _truth(
    request: ReportRequest, sizes: pd.DataFrame | None
) -> tuple[list[Record] | None, pd.DataFrame | None]:
    """The annotated images, and the table of their readers where there are several."""
    if not request.annotations:
        return None, None
    if holds_json(request.annotations):
        records, frame = read_truth(request.annotations), None
    else:
        frame = read_annotations(request.annotations, sizes)
        records = to_records(frame, furthest_corners(frame) if sizes is None else sizes)
        frame = frame if frame["rad_id"].nunique() > 1 else None
    if not records:
        raise InputError(f"{request.annotations}: holds no image")
    return records, frame
