"""Curves from the files that trainings leave: the lines that are drawn hold the files' numbers."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import one_line
from matplotlib.colors import to_hex

from vindr_det.exceptions import InputError
from vindr_det.imaging.palette import PALETTE
from vindr_det.structures.label_sets import FINDINGS, NIH_BOXES, VINBIGDATA, LabelSet
from vindr_det.training import plots

pytestmark = pytest.mark.figures


def lines_of(axes):
    """Label -> (N, 2) of the lines that a legend would name."""
    return {line.get_label(): np.column_stack(line.get_data()) for line in axes.lines
            if not line.get_label().startswith("_")}


@pytest.fixture
def detector(tmp_path):
    """metrics.json as both engines write it: a line per 20 iterations, and one per validation."""
    rng, rows = np.random.default_rng(0), []
    for iteration in range(19, 2000, 20):
        rows.append({"iteration": iteration, "lr": 0.01 * (1 - iteration / 2000), "time": 0.1,
                     "total_loss": 0.4 + np.exp(-iteration / 300) + 0.05 * rng.normal(),
                     "loss_cls": np.exp(-iteration / 300), "bbox_regression": 0.4})
        if iteration % 200 == 199:
            rows.append({"iteration": iteration, "validation_loss": 0.6, "validation_normal/loss": 0.2,
                         "validation_abnormal/loss": 0.9 + iteration / 9000, "vindr/mAP40": iteration / 8000,
                         "coco/AP40": iteration / 9000, "coco/AP50": iteration / 12000,
                         **{f"vindr/AP40/{name}": place / 30 + iteration / 10000
                            for place, name in enumerate([*FINDINGS, "No finding"])}})
    (tmp_path / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path, rows


@pytest.fixture
def classifier(tmp_path):
    for fold in (0, 1):
        epochs = np.arange(1, 11)
        pd.DataFrame({"epoch": epochs, "lr": 1e-3 / epochs,
                      "loss": 0.6 / epochs + 0.1, "auc": 1 - 0.4 / epochs,
                      "held_out_loss": 0.7 / epochs + 0.2, "held_out_auc": 0.9 - 0.3 / epochs,
                      **{f"held_out_auc/p_{name}": shift - 0.3 / epochs
                         for name, shift in (("a", 0.95), ("b", 0.9), ("c", 0.8))}}
                     ).to_csv(tmp_path / f"fold{fold}_history.csv", index=False)
    return tmp_path


def test_a_detectors_lines_are_those_of_its_file(detector):
    folder, rows = detector
    axes = plots.detector_figure(plots.read_metrics(folder / "metrics.json")).axes
    expected = {"training": "total_loss", "validation": "validation_loss",
                "validation, normal images": "validation_normal/loss",
                "validation, abnormal images": "validation_abnormal/loss"}
    assert lines_of(axes[0]).keys() == expected.keys()
    for label, key in expected.items():
        points = [(row["iteration"] + 1, row[key]) for row in rows if key in row]
        assert lines_of(axes[0])[label] == pytest.approx(np.array(points))
    assert [len(lines_of(part)) for part in axes] == [4, 3, 0, 2, 15, 0]
    assert lines_of(axes[3])["cls"] == pytest.approx(np.array(
        [(row["iteration"] + 1, row["loss_cls"]) for row in rows if "loss_cls" in row]))
    assert axes[2].lines[0].get_ydata()[-1] == pytest.approx(0.01 * (1 - 1999 / 2000))
    assert lines_of(axes[1])["COCO AP at IoU .40"][-1] == pytest.approx([2000, 1999 / 9000])
    assert [bar.get_width() for bar in axes[5].patches] == pytest.approx(
        [place / 30 + 0.1999 for place in range(15)])
    assert [label.get_text() for label in axes[5].get_yticklabels()] == [*FINDINGS, "No finding"]
    colors = [f"#{PALETTE[label]}" for label in range(15)]
    assert [line.get_color() for line in axes[4].lines] == colors
    assert [to_hex(bar.get_facecolor()) for bar in axes[5].patches] == colors
    assert "after 2000 iterations" in axes[5].get_title()


def test_a_line_that_lies_on_another_hides_it_not(tmp_path):
    """Without normal images the loss of the abnormal ones is that of all."""
    (tmp_path / "metrics.json").write_text("".join(json.dumps(
        {"iteration": at, "validation_loss": 0.5, "validation_abnormal/loss": 0.5}) + "\n" for at in (1, 2)))
    axes = plots.detector_figure(plots.read_metrics(tmp_path / "metrics.json")).axes[0]
    whole, part = axes.lines
    assert (whole.get_label(), part.get_label()) == ("validation", "validation, abnormal images")
    assert whole.get_linewidth() > part.get_linewidth()
    assert (whole.get_linestyle(), part.get_linestyle()) == ("-", "--")


def test_findings_have_the_colors_of_pictures_in_any_order(detector):
    file = detector[0] / "metrics.json"
    rows = [dict(sorted(json.loads(line).items())) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    axes = plots.detector_figure(plots.read_metrics(file)).axes[4]
    assert {line.get_label(): line.get_color() for line in axes.lines} == {
        name: f"#{PALETTE[label]}" for label, name in enumerate([*FINDINGS, "No finding"])}


@pytest.mark.parametrize("config, label_set", [
    (None, VINBIGDATA), ("[", VINBIGDATA), ("VINDR: 3", VINBIGDATA),
    ("VINDR: {LABEL_SET: NIH boxes, FINDINGS: []}", NIH_BOXES),
    ("VINDR: {LABEL_SET: own, FINDINGS: [x, Cardiomegaly]}", LabelSet("own", ("x", "Cardiomegaly")))])
def test_colors_are_those_of_the_trainings_label_set(tmp_path, monkeypatch, config, label_set):
    (tmp_path / "metrics.json").write_text('{"iteration": 1, "voc/AP40/Cardiomegaly": 0.5}\n')
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    figures = []
    monkeypatch.setattr(plots, "write_figure", lambda path, figure: figures.append(figure))
    plots.plot_training(tmp_path)
    color = f"#{PALETTE[label_set.classes.index('Cardiomegaly')]}"
    assert [line.get_color() for line in figures[0].axes[4].lines] == [color]


def test_the_same_of_another_label_set(detector):
    file = detector[0] / "metrics.json"
    file.write_text(file.read_text().replace("vindr/", "voc/"))
    axes = plots.detector_figure(plots.read_metrics(file)).axes
    assert lines_of(axes[1])["mAP at IoU > .4"][-1] == pytest.approx([2000, 1999 / 8000])
    assert "Nodule/Mass" in lines_of(axes[4]) and len(lines_of(axes[4])) == 15


def test_a_detector_without_validation(tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 19, "total_loss": NaN, "lr": 0.1}\n')
    axes = plots.detector_figure(plots.read_metrics(tmp_path / "metrics.json")).axes
    assert [text.get_text() for text in axes[1].texts] == ["not measured"]
    assert len(axes) == 5 and not any("after 0" in part.get_title() for part in axes)
    assert plots.plot_training(tmp_path).is_file()


def test_a_classifiers_lines_are_those_of_its_folds(classifier):
    folds = {fold: plots.read_history(classifier / f"fold{fold}_history.csv") for fold in (0, 1)}
    axes = plots.classifier_figure(folds).axes
    assert len(axes) == 6 and axes[3].get_title() == "fold 1"
    frame = pd.read_csv(classifier / "fold1_history.csv")
    for label, key in (("training", "loss"), ("held out", "held_out_loss")):
        assert lines_of(axes[3])[label] == pytest.approx(frame[["epoch", key]].to_numpy())
    assert lines_of(axes[4])["held out, median of labels"][:, 1] == pytest.approx(frame["held_out_auc/p_b"])
    band = axes[4].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.5, 0.92))
    assert axes[5].lines[0].get_ydata() == pytest.approx(frame["lr"])
    assert axes[1].get_ylim() == axes[4].get_ylim()


@pytest.mark.parametrize("values, factor, expected", [
    ([], 0.75, []), ([3.0], 0.75, [3.0]), ([1.0, 2.0, 4.0], 0.0, [1.0, 2.0, 4.0]),
    ([1.0, 2.0, 4.0], 0.75, [1.0, 1.25, 1.9375])])
def test_smoothing_by_hand(values, factor, expected):
    assert plots.smoothed(np.array(values), factor) == pytest.approx(expected)


def test_smoothed_curves_keep_the_values_visible(detector):
    folder, rows = detector
    axes = plots.detector_figure(plots.read_metrics(folder / "metrics.json"), 0.75).axes[0]
    raw = axes.lines[0].get_ydata()
    assert raw == pytest.approx([row["total_loss"] for row in rows if "total_loss" in row])
    assert np.std(np.diff(lines_of(axes)["training"][:, 1])) < np.std(np.diff(raw)) / 2


@pytest.mark.parametrize("text, message", [
    ("", "is empty"), ("no json\n{}\n", r"line 1: 'no json', expected a JSON object with an iteration"),
    ('{"iteration": 1}\n{"loss": 1}\n{"iteration": 2}\n', "line 2"), ("[]\n", "line 1")])
def test_a_damaged_file_is_named(tmp_path, text, message):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=rf"metrics.json.*{message}"):
        plots.plot_training(tmp_path)


def test_a_line_that_a_kill_cut_is_left_out(detector):
    folder, _ = detector
    whole = plots.read_metrics(folder / "metrics.json")
    with (folder / "metrics.json").open("a") as file:
        file.write('{"iteration": 2019, "total_l')
    cut = plots.read_metrics(folder / "metrics.json")
    assert cut.keys() == whole.keys() and all((cut[key] == whole[key]).all() for key in whole)


def test_a_failure_to_plot_costs_no_training(tmp_path, caplog):
    plots.plot_after_training(tmp_path / "nothing")
    assert "results.png was not drawn (InputError" in caplog.text


def test_the_tool(classifier, tmp_path_factory, tool, main_of, capsys):
    out = tmp_path_factory.mktemp("out")
    main_of("plot_training.py", classifier, "--out", out, "--smooth")
    assert capsys.readouterr().out.strip() == str(out / "results.png") and (out / "results.png").is_file()
    with pytest.raises(InputError, match=r"--smooth 1.0: expected 0 to below 1"):
        main_of("plot_training.py", classifier, "--smooth", 1)
    assert "has no fold*_history.csv and no metrics.json of a detector" in one_line(
        tool("plot_training.py", out))
