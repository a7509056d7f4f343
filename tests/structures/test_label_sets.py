import pytest

from vindr_det.structures.label_sets import (
    CLASS_NAMES,
    FINDINGS,
    NIH,
    NO_FINDING,
    NO_FINDING_ID,
    VINBIGDATA,
    LabelSet,
    column_of,
)


@pytest.mark.parametrize("label_set, count, classes", [
    (LabelSet("empty", ()), 0, 0),
    (LabelSet("boxes", ("Nodule",)), 1, 1),
    (LabelSet("both", ("Nodule",), "Normal"), 1, 2),
    (VINBIGDATA, 14, 15),
    (NIH, 14, 15),
])
def test_ids_are_positions_and_no_finding_is_last(label_set, count, classes):
    assert len(label_set) == count and len(label_set.classes) == classes
    assert label_set.classes[:count] == label_set.findings
    assert label_set.classes[count:] == (() if classes == count else (label_set.no_finding,))


def test_the_competitions_order_is_fixed():
    assert [FINDINGS[label] for label in (0, 3, 8)] == ["Aortic enlargement", "Cardiomegaly", "Nodule/Mass"]
    assert (NO_FINDING_ID, NO_FINDING, CLASS_NAMES[14]) == (14, "No finding", "No finding")
    assert column_of("Nodule/Mass") == "p_nodule_mass"
