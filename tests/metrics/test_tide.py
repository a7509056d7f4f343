import numpy as np
import pytest
from metric_cases import BOX, FAR, P, T, random_case

from vindr_det.metrics import localization, tide
from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.matching import match
from vindr_det.metrics.voc import VindrResult
from vindr_det.structures.detections import Predictions, no_finding
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet

LOW = (0, 0, 10, 3)  # covers .3 of BOX
ASIDE = (300, 300, 310, 310)

# name, truth, predictions, errors
CASES = [
    ("right", T((3, *BOX)), P((3, 0.9, *BOX)), {}),
    ("localization", T((3, *BOX)), P((3, 0.9, *LOW)), {"localization": 1}),
    ("classification", T((3, *BOX)), P((5, 0.9, *BOX)), {"classification": 1}),
    ("both", T((3, *BOX)), P((5, 0.9, *LOW)), {"both": 1, "missed": 1}),
    ("duplicate", T((3, *BOX)), P((3, 0.9, *BOX), (3, 0.8, *BOX)), {"duplicate": 1}),
    ("background", T((3, *BOX)), P((3, 0.9, *FAR)), {"background": 1, "missed": 1}),
    ("missed", T((3, *BOX), (4, *FAR)), P((3, 0.9, *BOX)), {"missed": 1}),
    ("no finding is no error", T((3, *BOX)), P((3, 0.9, *BOX)) + no_finding(0.5), {}),
]


@pytest.mark.parametrize("name, truth, predictions, expected", CASES, ids=[c[0] for c in CASES])
def test_errors_by_hand(name, truth, predictions, expected):
    errors = tide.tide_errors(match({"a": predictions}, {"a": truth}, 0.4))
    assert {name: count for name, count in errors.counts.items() if count} == expected


def test_delta_ap_by_hand():
    """One of two findings right, the other of a wrong class, which halves the mAP."""
    truth, detections = {"a": T((3, *BOX), (4, *FAR))}, {"a": P((3, 0.9, *BOX), (5, 0.8, *FAR))}
    errors = tide.tide_errors(match(detections, truth, 0.4))
    assert errors.delta_ap["classification"] == pytest.approx(0.5)
    # A background box before the only true positive halves its precision.
    wrong_first = {"a": P((3, 0.9, *FAR), (3, 0.8, *BOX))}
    assert tide.tide_errors(match(wrong_first, {"a": T((3, *BOX))}, 0.4)).delta_ap["background"] == 0.5
    # A badly localized box whose truth another box has detected is only removed.
    twice = {"a": P((3, 0.9, *LOW), (3, 0.8, *BOX))}
    assert tide.tide_errors(match(twice, {"a": T((3, *BOX))}, 0.4)).delta_ap["localization"] == 0.5


def test_every_false_positive_has_one_type_and_fixing_it_never_costs():
    rng = np.random.default_rng(2)
    for _ in range(60):
        predictions, truth = random_case(rng)
        matched = match(predictions, truth, 0.4)
        errors = tide.tide_errors(matched)
        false = (~matched.correct & (matched.detections.label != 14)).sum()
        assert sum(errors.counts[name] for name in tide.ERRORS[:-1]) == false
        assert min(errors.delta_ap.values()) >= -1e-12 or np.isnan(VindrResult.of_matched(matched).mean_ap)


def test_confusion_by_hand():
    truth = {"a": T((3, *BOX), (4, *FAR), (6, *ASIDE)), "b": T()}
    detections = {"a": P((5, 0.9, *BOX), (4, 0.8, *FAR), (3, 0.7, *BOX), (2, 0.2, *ASIDE)),
                  "b": P((1, 0.6, *BOX)) + no_finding(0.9)}
    matrix = tide.confusion_matrix(match(detections, truth, 0.4), 0.5)
    expected = np.zeros((15, 15), int)
    expected[3, 5] = expected[4, 4] = 1  # the better box of another class has the truth
    expected[6, 14] = 1  # its box is below the score
    expected[14, 3] = expected[14, 1] = 1
    assert np.array_equal(matrix, expected)


def test_localization_by_hand():
    truth = {"a": T((3, *BOX)), "b": T((3, *BOX)), "c": T((3, *BOX)), "d": T()}
    detections = {"a": P((3, 0.9, 0, 0, 10, 4), (3, 0.8, *BOX)),  # the best-scored one counts: .4
                  "b": P((3, 0.2, *BOX)), "d": P((3, 0.9, *BOX))}
    matched = match(detections, truth, 0.4)
    accuracy = localization.accuracies(matched)
    assert accuracy[3].tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert np.isnan(accuracy[4]).all()
    drawn = Bootstrap(np.array([[2, 1, 0, 5]], np.uint16), np.arange(4))
    twice = localization.accuracy_replicates(matched, drawn)
    assert twice[0, 3].tolist() == pytest.approx([1, 1, 1 / 3, 1 / 3])
    assert localization.as_metrics(accuracy, VINBIGDATA)["localization/accuracy@0.5"] == pytest.approx(1 / 3)


def test_boxes_on_images_of_a_label_set_without_any_truth():
    own = LabelSet("own", ("Lesion",))
    boxes = Predictions(np.array([[0.0, 0, 9, 9]]), np.ones(1), np.zeros(1, int), own)
    empty = Predictions(label_set=own)
    errors = tide.tide_errors(match({"a": boxes}, {"a": empty, "b": empty}, 0.4))
    assert errors.counts["background"] == 1 and sum(errors.counts.values()) == 1
