"""Figures of detections: what is drawn holds the numbers of the metrics, and of other libraries."""

import numpy as np
import pytest
from metric_cases import BOX, FAR, P, T, random_case
from sklearn.metrics import precision_recall_curve

from vindr_det.imaging.palette import PALETTE
from vindr_det.metrics import plots
from vindr_det.metrics.matching import match
from vindr_det.metrics.tide import confusion_matrix
from vindr_det.metrics.voc import VindrResult
from vindr_det.structures.label_sets import VINBIGDATA

pytestmark = pytest.mark.figures


def test_nothing_detected_and_nothing_there():
    figure = plots.pr_figure(match({}, {"a": T((3, *BOX))}, 0.4))
    assert figure.axes[0].lines[0].get_label() == "Cardiomegaly  0.000  (1)"
    assert "mean  0.000" in [line.get_label() for line in figure.axes[0].lines]
    assert plots.pr_figure(match({}, {}, 0.4)).axes[0].lines[:] == []


def test_a_curve_by_hand():
    """Right, wrong, right of two: precision 1 and 2/3."""
    truth = {"a": T((3, *BOX), (3, *FAR))}
    detections = {"a": P((3, 0.9, *BOX), (3, 0.8, 90, 90, 95, 95), (3, 0.7, *FAR))}
    recall, precision = plots.pr_curve(match(detections, truth, 0.4), 3)
    assert recall.tolist() == [0.5, 1.0] and precision == pytest.approx([1.0, 2 / 3])


@pytest.mark.parametrize("seed", range(4))
def test_areas_are_the_aps_and_points_those_of_sklearn(seed):
    matched = match(*random_case(np.random.default_rng(seed)), 0.4)
    result = VindrResult.of_matched(matched)
    for label, name in enumerate(VINBIGDATA.classes):
        if not result.truths[name]:
            continue
        recall, precision = plots.pr_curve(matched, label)
        area = (np.diff(recall, prepend=0) * precision).sum()
        assert area == pytest.approx(result.ap[name])
        correct = matched.by_class[label].correct
        if correct.any():
            share = correct.sum() / result.truths[name]
            sk_precision, sk_recall, _ = precision_recall_curve(correct, -np.arange(len(correct)))
            for at, value in zip(recall, precision, strict=True):
                reached = sk_recall * share >= at - 1e-9
                assert value == pytest.approx(sk_precision[reached].max())


def test_the_figure_has_a_line_per_class_and_the_mean():
    matched = match(*random_case(np.random.default_rng(1)), 0.4)
    result = VindrResult.of_matched(matched)
    lines = {line.get_label(): line for line in plots.pr_figure(matched).axes[0].lines}
    shown = {name: ap for name, ap in result.ap.items() if result.truths[name]}
    assert lines.keys() == {f"mean  {result.mean_ap:.3f}",
                            *(f"{name}  {ap:.3f}  ({result.truths[name]})" for name, ap in shown.items())}
    for label, name in enumerate(VINBIGDATA.classes):
        for text, line in lines.items():
            assert not text.startswith(f"{name}  ") or line.get_color() == f"#{PALETTE[label]}"
    mean = lines[f"mean  {result.mean_ap:.3f}"].get_ydata()
    assert mean[:-1].mean() == pytest.approx(result.mean_ap, abs=0.01)


def test_the_confusion_matrix_has_true_findings_in_columns():
    truth = {"a": T((3, *BOX), (4, *FAR))}
    detections = {"a": P((5, 0.9, *BOX), (0, 0.8, 90, 90, 95, 95), (4, 0.1, *FAR))}
    matrix = confusion_matrix(match(detections, truth, 0.4), 0.25)
    axes = plots.confusion_figure(matrix, VINBIGDATA, 0.25, 0.4).axes[0]
    assert axes.get_title() == "Confusion matrix at IoU > 0.4, scores from 0.25 on"
    names = [label.get_text() for label in axes.get_xticklabels()]
    shown = {(names[int(text.get_position()[0])], names[int(text.get_position()[1])]): text.get_text()
             for text in axes.texts}
    findings = VINBIGDATA.findings
    assert shown == {(findings[3], findings[5]): "1", (findings[4], "background"): "1",
                     ("background", findings[0]): "1"}
    assert axes.get_xlabel() == "true" and axes.get_ylabel() == "detected"


def test_the_files(tmp_path):
    plots.write_pictures(tmp_path, match(*random_case(np.random.default_rng(0)), 0.4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion_matrix.png", "pr_curve.png"]
