"""An answer as a presentation state: the boxes as graphics that a viewer lays over the original itself."""

import numpy as np
from highdicom import (
    VOILUT,
    ModalityLUT,
    ModalityLUTTransformation,
    PresentationLUTShapeValues,
    PresentationLUTTransformation,
)
from highdicom.color import CIELabColor
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from pydicom import Dataset
from pydicom.valuerep import DA, TM

from vindr_det.imaging.dicom.file import read_percentile_range
from vindr_det.imaging.palette import color_of
from vindr_det.pacs.answer import STATEMENT, Answer, Box
from vindr_det.pacs.text import fitted

KIND, SERIES = "pr", 9003


def presentation_state(answer: Answer) -> Dataset:
    """A layer per finding, in its color, which a viewer shows and hides.

    The picture is shown as everywhere in this package: by the original's own table or window, or where it has
    none that shows something between percentiles of its pixels. ``MONOCHROME1`` needs the inverse shape, as a
    state replaces what the image says (PS3.3 C.11.6).
    """
    shape = "INVERSE" if answer.original.inverted else "IDENTITY"
    layers = _layers(answer)
    remarks = GraphicLayer("REMARKS", len(layers) + 1, "Limits and remarks")
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[answer.original.header], content_label="VINDR_DET",
        content_description=STATEMENT, graphic_layers=[*layers.values(), remarks],
        graphic_annotations=[*(_annotation(answer, box, layers[box.class_id]) for box in answer.boxes),
                             _remarks(answer, remarks)],
        modality_lut_transformation=_modality(answer), voi_lut_transformations=_window(answer),
        presentation_lut_transformation=PresentationLUTTransformation(PresentationLUTShapeValues(shape)),
        series_description="Findings of a model (boxes on the image)",
        **{key: value for key, value in answer.common(KIND, SERIES).items()
           if not key.startswith("content_")})
    state.PresentationCreationDate = DA(answer.moment.date())
    state.PresentationCreationTime = TM(answer.moment.time())
    state.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio = list(answer.original.aspect)
    return state


def _window(answer: Answer) -> list[SoftcopyVOILUTTransformation] | None:
    """The percentiles as a window, or the original's table; None takes its window."""
    shown = read_percentile_range(answer.original.path)
    if shown is None:
        tables = answer.original.header.get("VOILUTSequence")
        return [SoftcopyVOILUTTransformation(voi_luts=[VOILUT.from_dataset(tables[0])])] if tables else None
    bottom, top = shown
    return [SoftcopyVOILUTTransformation(round((bottom + top) / 2, 3), round(max(top - bottom, 0.001), 3),
                                         voi_lut_function="LINEAR_EXACT")]


def _modality(answer: Answer) -> ModalityLUTTransformation | None:
    """The original's table; None takes its slope and intercept."""
    tables = answer.original.header.get("ModalityLUTSequence")
    return ModalityLUTTransformation(modality_lut=ModalityLUT.from_dataset(tables[0])) if tables else None


def _layers(answer: Answer) -> dict[int, GraphicLayer]:
    """Class id -> its layer; names may have capitals, digits and ``_``."""
    findings = {box.class_id: box.finding for box in answer.boxes}
    return {label: GraphicLayer(f"FINDING_{label}", order, fitted(findings[label], "LO"),
                                CIELabColor.from_rgb(*color_of(label)))
            for order, label in enumerate(sorted(findings), 1)}


def _annotation(answer: Answer, box: Box, layer: GraphicLayer) -> GraphicAnnotation:
    return GraphicAnnotation(
        [answer.original.header], layer,
        graphic_objects=[GraphicObject("POLYLINE", np.array(box.outline), "PIXEL")],
        text_objects=[TextObject(f"{box.finding[:200]} {box.score:.2f}", "PIXEL",
                                 anchor_point=box.corners[:2], anchor_point_visible=False)])


def _remarks(answer: Answer, layer: GraphicLayer) -> GraphicAnnotation:
    """What the picture of the other kinds says above it, at the top of the displayed area."""
    text = TextObject(fitted("; ".join(answer.comments), "ST"), "DISPLAY", bounding_box=(0.0, 0.0, 1.0, 0.08),
                      text_justification="LEFT")
    return GraphicAnnotation([answer.original.header], layer, text_objects=[text])


def corners_of(state: Dataset) -> list[list[float]]:
    """xyxy of each box of a state that was read back, in order."""
    points = [np.array(graphic.GraphicData).reshape(-1, 2)
              for annotation in state.GraphicAnnotationSequence
              for graphic in annotation.get("GraphicObjectSequence", [])]
    return [[*corner.min(axis=0), *corner.max(axis=0)] for corner in points]
