"""Mapping between label sets: the table, by hand."""

import numpy as np
import pytest

from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_maps import common_findings, map_predictions, map_records, row_map
from vindr_det.structures.label_sets import NIH, NIH_BOXES, VINBIGDATA, VINDR_CXR, LabelSet
from vindr_det.structures.records import Record

CHESTXDET = LabelSet("ChestX-Det", ("Atelectasis", "Effusion", "Fibrosis", "Fracture", "Mass", "Nodule",
                                    "Diffuse Nodule", "Pleural Thickening"))
FRACTURES = LabelSet("VinDr fractures", ("Clavicle fracture", "Rib fracture"))


def names(source, target):
    return {name: None if row is None else source.classes[row]
            for name, row in zip(target.classes, row_map(source, target), strict=True)}


def test_the_row_of_each_class():
    assert names(VINBIGDATA, NIH_BOXES) == {
        "Atelectasis": "Atelectasis", "Cardiomegaly": "Cardiomegaly", "Effusion": "Pleural effusion",
        "Infiltration": "Infiltration", "Mass": "Nodule/Mass", "Nodule": "Nodule/Mass", "Pneumonia": None,
        "Pneumothorax": "Pneumothorax"}
    back = names(NIH, VINBIGDATA)
    assert {name for name, row in back.items() if row is None} == {
        "Aortic enlargement", "Calcification", "ILD", "Lung Opacity", "Other lesion"}
    assert back["Nodule/Mass"] == "Mass" and back["Pulmonary fibrosis"] == "Fibrosis"
    assert back["Pleural thickening"] == "Pleural_Thickening" and back["No finding"] == "No Finding"
    assert names(VINDR_CXR, VINBIGDATA) == {name: name for name in VINBIGDATA.classes}
    assert names(CHESTXDET, VINDR_CXR)["Rib fracture"] == "Fracture"
    assert names(NIH, CHESTXDET)["Diffuse Nodule"] == "Nodule"
    children = LabelSet("children", ("Other nodule/mass", "Interstitial lung disease - ILD", "Opacity"))
    assert [VINBIGDATA.classes[row] for row in row_map(VINBIGDATA, children)] == [
        "Nodule/Mass", "ILD", "Lung Opacity"]
    assert row_map(NIH, NIH) == list(range(15)) and row_map(NIH_BOXES, VINBIGDATA)[14] is None


def test_common_findings_are_as_wide_as_the_wider_set():
    common = common_findings(VINBIGDATA, NIH_BOXES)
    assert common.label_set.findings == ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration",
                                         "Nodule/Mass", "Pneumothorax")
    assert common.label_set.no_finding is None
    assert common.left_out["NIH boxes"] == ("Pneumonia",)
    assert common.left_out["VinBigData"] == (
        "Aortic enlargement", "Calcification", "Consolidation", "ILD", "Lung Opacity", "Other lesion",
        "Pleural thickening", "Pulmonary fibrosis", "No finding")
    assert common.joined == {"Nodule/Mass": ("Mass", "Nodule")}
    fourteen = common_findings(VINDR_CXR, VINBIGDATA).label_set
    assert fourteen.findings == VINBIGDATA.findings
    assert fourteen.mean_ap == "voc/mAP40"  # the competition's metric is over "no finding" too
    assert common_findings(NIH, CHESTXDET).label_set.findings == (
        "Atelectasis", "Effusion", "Fibrosis", "Mass", "Nodule", "Pleural Thickening")
    # The third set has Nodule/Mass alone.
    assert "Mass" not in common_findings(NIH, VINBIGDATA, CHESTXDET).label_set.findings
    assert common_findings(CHESTXDET, FRACTURES).label_set.findings == ("Fracture",)
    with pytest.raises(InputError, match="VinDr fractures, NIH boxes: no finding in common"):
        common_findings(FRACTURES, NIH_BOXES)


def boxes(label_set, *labels):
    box = np.tile([0.0, 0, 10, 10], (len(labels), 1))
    return Predictions(box + np.arange(len(labels))[:, None], np.ones(len(labels)), np.array(labels, int),
                       label_set)


def test_detections_are_mapped_or_left_out():
    common = common_findings(VINBIGDATA, NIH_BOXES).label_set
    assert map_predictions({}, common) == {}
    mapped = map_predictions({"a": boxes(VINBIGDATA, 0, 10, 8, 14), "b": boxes(NIH_BOXES, 4, 5, 6)}, common)
    assert mapped["a"].labels.tolist() == [2, 4] and mapped["a"].boxes[:, 0].tolist() == [1, 2]
    assert mapped["b"].labels.tolist() == [4, 4] and mapped["b"].label_set == common


# truth, unknown (NIH boxes) -> labels, unknown among Cardiomegaly 1 ... of VinBigData's 14 findings
NEVER_NAMED = (0, 2, 4, 5, 7, 9, 11, 13)
WIDER = [("empty", (), (), [], ()), ("both kinds", (4, 5), (), [8, 8], ()),
         ("a mass, nodules unknown", (4,), (5,), [], (8,)), ("effusion unknown", (1,), (2,), [3], (10,)),
         ("pneumonia", (6, 7), (), [12], ())]


@pytest.mark.parametrize("name, truth, unknown, labels, expected", WIDER, ids=[case[0] for case in WIDER])
def test_records_to_the_wider_set(name, truth, unknown, labels, expected):
    record = Record("a", "a.png", 100, 100, boxes(NIH_BOXES, *truth), tuple(("R1",) for _ in truth), unknown)
    mapped = map_records([record], VINBIGDATA)[0]
    assert mapped.truth.labels.tolist() == labels and len(mapped.readers) == len(labels)
    assert mapped.unknown == tuple(sorted({*NEVER_NAMED, *expected})) and mapped.label_set == VINBIGDATA


def test_records_to_a_finer_set():
    """An image without a nodule or mass has no nodule; one with such a box may have either."""
    records = [Record("a", "a.png", 100, 100, boxes(VINBIGDATA)),
               Record("b", "b.png", 100, 100, boxes(VINBIGDATA, 8, 3))]
    first, second = map_records(records, NIH_BOXES)
    assert first.unknown == (6,) and second.unknown == (4, 5, 6)
    assert second.truth.labels.tolist() == [1]
    assert map_records(records, VINBIGDATA) == records and map_records([], NIH_BOXES) == []
