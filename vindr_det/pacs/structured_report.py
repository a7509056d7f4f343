"""An answer as a structured report: TID 1500 with a coded finding, a score and a region for each box."""

from collections.abc import Sequence
from typing import Any

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from numpy import array
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from vindr_det.exceptions import InputError
from vindr_det.imaging.status import FLAGGED
from vindr_det.pacs.answer import MANUFACTURER, STATEMENT, Answer, Box, uid_of
from vindr_det.pacs.codes import PRIVATE, code_of
from vindr_det.pacs.text import fitted

KIND, SERIES = "sr", 9002
#: Value of the status of an image -> its code's value and meaning.
_STATUSES = {"ok": ("READ", "Read"), "flagged": ("FLAGGED", "Read, look at it before you trust it"),
             "failed": ("NOT_READ", "Not read, nothing is known about it")}


def structured_report(answer: Answer) -> Dataset:
    """The report; of an image that was not read it says so and names no finding."""
    groups = [_image_group(answer), *(_finding_group(answer, number, box)
                                      for number, box in enumerate(answer.boxes, 1))]
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(answer)),
        procedure_reported=_procedure(answer), imaging_measurements=groups)
    # The report as a whole is for people who read it as text.
    report[0].ContentSequence.extend(_text(text) for text in (STATEMENT, *answer.original.notes))
    scheme = CodingSchemeIdentificationItem(PRIVATE, name="Codes of vindr_det",
                                            responsible_organization="The vindr_det developers")
    return ComprehensiveSR(
        evidence=[answer.original.header], content=report[0], is_complete=True, is_final=False,
        series_description="Findings of a model (report)", coding_schemes=[scheme],
        **answer.common(KIND, SERIES))


def _procedure(answer: Answer) -> Code:
    return codes.SCT.PlainRadiography if answer.original.is_radiograph else codes.SCT.ImagingProcedure


def _observer(answer: Answer) -> ObserverContext:
    """The software is the observer; no person has looked."""
    return ObserverContext(codes.DCM.Device, DeviceObserverIdentifyingAttributes(
        uid=uid_of("device", answer.algorithm.name, answer.algorithm.version), manufacturer_name=MANUFACTURER,
        model_name=fitted(answer.algorithm.name, "LO"),
        serial_number=fitted(answer.algorithm.version, "LO")))


def _image_group(answer: Answer) -> MeasurementsAndQualitativeEvaluations:
    """What is known of the whole image: whether it was read, why it is flagged, probabilities."""
    status = "failed" if not answer.is_read else FLAGGED if answer.remark else "ok"
    report = answer.report if answer.is_read else {}
    scores = {**(report.get("probabilities") or {}),
              **({} if report.get("no_finding") is None else {"no finding": report["no_finding"]})}
    header = answer.original.header
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(answer, "image"), algorithm_id=_algorithm(answer),
        qualitative_evaluations=[QualitativeEvaluation(
            CodedConcept("STATUS", PRIVATE, "Status of the image"),
            CodedConcept(_STATUSES[status][0], PRIVATE, _STATUSES[status][1]))],
        measurements=[Measurement(CodedConcept(*code_of(f"probability {name}")[:3]), _percent(value),
                                  codes.UCUM.Percent) for name, value in scores.items()],
        source_images=[SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)])
    if answer.remark:
        group[0].ContentSequence.append(_text(answer.remark))
    return group


def _finding_group(
    answer: Answer, number: int, box: Box
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """A finding, its score as DICOM's certainty in percent, and the box as a closed polyline."""
    header, code = answer.original.header, code_of(box.finding)
    region = ImageRegion(GraphicTypeValues.POLYLINE, array(box.outline),
                         SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID))
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(answer, f"{box.finding} {number}"), referenced_region=region,
        finding_type=CodedConcept(code.value, code.scheme, code.meaning), algorithm_id=_algorithm(answer),
        measurements=[Measurement(codes.DCM.CertaintyOfFinding, _percent(box.score), codes.UCUM.Percent)])


def _algorithm(answer: Answer) -> AlgorithmIdentification:
    name, version = (fitted(text, "LO") for text in (answer.algorithm.name, answer.algorithm.version))
    return AlgorithmIdentification(name, version, [f"boxes with a score of {answer.score:g} or more"])


def _tracking(answer: Answer, name: str) -> TrackingIdentifier:
    return TrackingIdentifier(uid=answer.uid(f"tracking {name}"), identifier=name)


def _text(text: str) -> Any:
    return TextContentItem(codes.DCM.Comment, text, RelationshipTypeValues.CONTAINS)


def _percent(score: float) -> float:
    return round(100 * float(score), 4)


def boxes_of(report: Dataset) -> Sequence[tuple[str, str, float, list[float]]]:
    """The findings of a report that was read back.

    Args:
        report: of :func:`structured_report`.

    Returns:
        Scheme and value of the code, score, and xyxy of each box, in order.

    Raises:
        InputError: a group has no region or no finding.
    """
    content = ComprehensiveSR.from_dataset(report).content
    groups = MeasurementReport.from_sequence([content] if isinstance(content, Dataset) else content)
    return [_box_of(group) for group in groups.get_planar_roi_measurement_groups()]


def _box_of(group: PlanarROIMeasurementsAndQualitativeEvaluations) -> tuple[str, str, float, list[float]]:
    region, kind = group.roi, group.finding_type
    if region is None or kind is None:
        raise InputError("a group without region or finding, expected a report of vindr-det")
    points = region.value
    score = group.get_measurements(name=codes.DCM.CertaintyOfFinding)[0].value / 100
    return kind.scheme_designator, kind.value, score, [*points.min(axis=0), *points.max(axis=0)]
