"""An answer as a presentation state: the boxes as graphics that a viewer lays over the original itself."""

import numpy as np
from highdicom import PresentationLUTShapeValues, PresentationLUTTransformation
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

KIND, SERIES = "pr", 9003


def presentation_state(answer: Answer) -> Dataset:
    """A layer per finding, in its color, which a viewer shows and hides.

    The picture is shown as everywhere in this package: by the original's own table or window, or where it has
    none that shows something between percentiles of its pixels. ``MONOCHROME1`` needs the inverse shape, as a
    state replaces what the image says (PS3.3 C.11.6).
    """
    shape = "INVERSE" if answer.original.inverted else "IDENTITY"
    layers = _layers(answer)
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[answer.original.header], content_label="VINDR_DET",
        content_description=STATEMENT, graphic_layers=list(layers.values()),
        graphic_annotations=[_annotation(answer, box, layers[box.class_id]) for box in answer.boxes],
        voi_lut_transformations=_window(answer),
        presentation_lut_transformation=PresentationLUTTransformation(PresentationLUTShapeValues(shape)),
        series_description="Findings of a model (boxes on the image)",
        **{key: value for key, value in answer.common(KIND, SERIES).items()
           if not key.startswith("content_")})
    state.PresentationCreationDate = DA(answer.created.date())
    state.PresentationCreationTime = TM(answer.created.time())
    state.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio = list(answer.original.aspect)
    return state


def _window(answer: Answer) -> list[SoftcopyVOILUTTransformation] | None:
    """The percentiles as a window; None takes the original's own."""
    shown = read_percentile_range(answer.original.path)
    if shown is None:
        return None
    bottom, top = shown
    return [SoftcopyVOILUTTransformation(round((bottom + top) / 2, 3), round(max(top - bottom, 0.001), 3),
                                         voi_lut_function="LINEAR_EXACT")]


def _layers(answer: Answer) -> dict[int, GraphicLayer]:
    """Class id -> its layer; names may have capitals, digits and ``_``."""
    findings = {box.class_id: box.finding for box in answer.boxes}
    return {label: GraphicLayer(f"FINDING_{label}", order, findings[label][:64],
                                CIELabColor.from_rgb(*color_of(label)))
            for order, label in enumerate(sorted(findings), 1)}


def _annotation(answer: Answer, box: Box, layer: GraphicLayer) -> GraphicAnnotation:
    return GraphicAnnotation(
        [answer.original.header], layer,
        graphic_objects=[GraphicObject("POLYLINE", np.array(box.outline), "PIXEL")],
        text_objects=[TextObject(f"{box.finding} {box.score:.2f}", "PIXEL", anchor_point=box.corners[:2],
                                 anchor_point_visible=False)])


def corners_of(state: Dataset) -> list[list[float]]:
    """xyxy of each box of a state that was read back, in order."""
    points = [np.array(graphic.GraphicData).reshape(-1, 2)
              for annotation in state.GraphicAnnotationSequence
              for graphic in annotation.GraphicObjectSequence]
    return [[*corner.min(axis=0), *corner.max(axis=0)] for corner in points]
