import pytest

from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import (
    CLASS_NAMES,
    FINDINGS,
    LABEL_SETS,
    NIH,
    NO_FINDING,
    NO_FINDING_ID,
    VINBIGDATA,
    LabelSet,
    column_of,
    first_difference,
    label_set_named,
    nearest_name,
)


@pytest.mark.parametrize("label_set, count, classes", [
    (LabelSet("empty", ()), 0, 0),
    (LabelSet("boxes", ("Nodule",)), 1, 1),
    (LabelSet("both", ("Nodule",), "Normal"), 1, 2),
    (VINBIGDATA, 14, 15),
    (NIH, 14, 15),
    (LABEL_SETS["NIH boxes"], 8, 8),
    (LABEL_SETS["VinDr-CXR"], 22, 23),
    (LABEL_SETS["VinDr-CXR global"], 5, 6),
    (LABEL_SETS["VinDr-PCXR"], 36, 37),
    (LABEL_SETS["VinDr-PCXR global"], 14, 15),
    (LABEL_SETS["ChestX-Det"], 13, 13),
    (LABEL_SETS["ChestX-Det10"], 10, 10),
    (LABEL_SETS["RSNA pneumonia"], 1, 1),
    (LABEL_SETS["SIIM-COVID"], 1, 1),
    (LABEL_SETS["SIIM-COVID study"], 3, 4),
])
def test_ids_are_positions_and_no_finding_is_last(label_set, count, classes):
    assert len(label_set) == count and len(label_set.classes) == classes
    assert label_set.classes[:count] == label_set.findings
    assert label_set.classes[count:] == (() if classes == count else (label_set.no_finding,))


def test_the_competitions_order_is_fixed():
    assert [FINDINGS[label] for label in (0, 3, 8)] == ["Aortic enlargement", "Cardiomegaly", "Nodule/Mass"]
    assert (NO_FINDING_ID, NO_FINDING, CLASS_NAMES[14]) == (14, "No finding", "No finding")
    assert column_of("Nodule/Mass") == "p_nodule_mass"


@pytest.mark.parametrize("name, expected", [
    ("ild", "ILD"), ("Pleural efusion", "Pleural effusion"), ("nodule", "Nodule/Mass"),
    ("opacity", "Lung Opacity")])
def test_the_nearest_name(name, expected):
    assert nearest_name(name, VINBIGDATA) == expected


@pytest.mark.parametrize("findings, message", [
    ((1, 2), "class 0 is 1, expected a name"),
    (("Mass", True), "class 1 is True, expected a name; quotes"),
    (("Mass", None), "class 1 is None, expected a name"),
    (("Mass", "  "), "class 1 is '  ', expected a name"),
    (("Mass", "mass "), "'mass ' is there twice, expected each finding once"),
    (("Lung Mass", "Lung  mass"), "'Lung  mass' is there twice"),
    (("Mass", "no Finding"), "class 1 is 'no Finding', expected findings alone"),
])
def test_findings_are_names_each_once(findings, message):
    with pytest.raises(InputError, match=f"^VINDR.FINDINGS: {message}"):
        label_set_named("own", findings)


def test_a_label_set_of_ones_own():
    assert label_set_named("own", [" Mass", "Clip "]) == LabelSet("own", ("Mass", "Clip"))
    assert label_set_named("VinBigData", list(FINDINGS)) is VINBIGDATA


@pytest.mark.parametrize("own, expected, text", [
    (("a", "b"), ("a", "c"), "class 1 is 'b', expected 'c'"),
    (("a",), ("a", "c"), "class 1 is missing, expected 'c'"),
    (("a", "b"), ("a",), "class 1 is 'b', expected no further one"),
    (("a",), ("a",), "the same classes by another name"),
])
def test_the_first_difference(own, expected, text):
    assert first_difference(LabelSet("mine", own), LabelSet("mine", expected)) == text


def test_names_are_unique():
    for label_set in LABEL_SETS.values():
        assert len({name.casefold() for name in label_set.classes}) == len(label_set.classes)
    assert len({label_set.findings for label_set in LABEL_SETS.values()}) == len(LABEL_SETS)
