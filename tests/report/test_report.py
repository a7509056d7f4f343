"""The report: what is on the page, where it is from, and what is refused."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from report_case import EVIL, TRUTH, data_of, write_case, write_odd_case

from vindr_det.commands import run_command
from vindr_det.data.coco import to_coco
from vindr_det.evaluation.evaluate import EvaluationRequest, run_evaluation
from vindr_det.exceptions import InputError
from vindr_det.imaging.palette import code_of
from vindr_det.report import build
from vindr_det.report.blocks import Cell, Series
from vindr_det.report.build import write_report
from vindr_det.report.cases import case_of
from vindr_det.report.choice import KINDS, choose, image_kinds
from vindr_det.report.page import SCRIPTS, embedded, static
from vindr_det.report.pictures import Budget, find_maps
from vindr_det.report.request import ReportRequest
from vindr_det.report.sources import read_sources
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet
from vindr_det.structures.records import Record


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_case(tmp_path_factory.mktemp("run"))


def page_of(tmp_path: Path, **options) -> str:
    out = tmp_path / "report.html"
    write_report(ReportRequest(str(out), bootstrap=0, workers=1, **options))
    return out.read_text(encoding="utf-8")


def titles(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", page)


@pytest.mark.parametrize(
    "names, expected",
    [
        (("predictions",), ["Provenance"]),
        (("predictions", "images"), ["Provenance"]),
        (("annotations",), ["Data", "Provenance"]),
        (
            ("predictions", "annotations"),
            ["Scores", "Classes", "Curves", "Errors and what they cost", "Confusion", "Data", "Provenance"],
        ),
        (
            ("predictions", "annotations", "meta", "images"),
            [
                "Scores",
                "Cases",
                "Classes",
                "Curves",
                "Errors and what they cost",
                "Confusion",
                "Data",
                "Provenance",
            ],
        ),
    ],
)
def test_absent_parts_are_left_out(files, tmp_path, names, expected):
    page = page_of(tmp_path, **{name: files[name] for name in names})
    assert [title for title in titles(page) if title != "Cases" or "annotations" in names] == expected
    assert re.findall(r'<li><a href="#([\w-]+)">', page) == re.findall(
        r'<section class="card" id="([\w-]+)"', page
    )


def test_cases_are_shown_without_any_truth(files, tmp_path):
    page = page_of(tmp_path, predictions=files["predictions"], images=files["images"])
    cases = data_of(page)["cases"]
    assert {case["id"] for case in cases} == set(TRUTH)
    assert all(case["truth"] is None and case["normal"] is None for case in cases)


def test_scores_are_those_of_evaluate(files, tmp_path):
    page = page_of(tmp_path, predictions=files["predictions"], annotations=files["annotations"])
    values, _ = run_evaluation(EvaluationRequest(files["annotations"], files["predictions"]))
    for key in ("vindr/mAP40", "coco/AP50", "froc/sensitivity@1"):
        assert re.search(
            rf'{key}</th>\s*<td class="number" data-order="{re.escape(str(values[key]))}">', page
        ), key
    assert re.search(r"Cardiomegaly</th>.*?data-order=\"2.0\".*?data-order=\"3.0\"", page)


def test_metrics_of_a_file_where_nothing_is_to_be_measured(tmp_path):
    (tmp_path / "metrics.json").write_text(
        '{"vindr/mAP40": 0.25, "vindr/mAP40/ci95": [0.2, 0.3], "coco/AP": null}'
    )
    page = page_of(tmp_path, metrics=str(tmp_path / "metrics.json"))
    assert "As metrics.json has them." in page and str(tmp_path) not in page
    assert "0.250 [0.200, 0.300]" in page and titles(page) == ["Scores", "Provenance"]


def test_boxes_have_the_outcomes_of_the_metric(files):
    sources = read_sources(ReportRequest("x.html", **files))
    cases = {name: case_of(sources, name, 200, 160).data for name in TRUTH}
    assert [row[-1] for row in cases["a1"]["predicted"]] == [0, -1]  # the second box is a duplicate
    assert [row[5:] for row in cases["a1"]["truth"]] == [[0, 0.9]]
    assert [row[5:] for row in cases["b1"]["truth"]] == [[0, 0.5], [-1, None]] and not cases["b1"]["normal"]
    assert cases["d1"]["normal"] and [row[-1] for row in cases["d1"]["predicted"]] == [-1]
    assert cases["e1"]["predicted"] == [] and cases["e1"]["truth"] == []
    assert list(cases["a1"]["readers"]) == ["R1", "R2", "R3"]
    assert cases["a1"]["readers"]["R2"] == [[3, 20.0, 100.0, 120.0, 160.0]]


@pytest.mark.parametrize("score, expected", [
    (0.3, {"a1": 4, "b1": 2, "c1": 5, "d1": 3, "e1": 5, EVIL: 5}),
    (0.5, {"a1": 5, "b1": 2, "c1": 2, "d1": 3, "e1": 5, EVIL: 5}),
    (1.0, {"a1": 2, "b1": 2, "c1": 2, "d1": 5, "e1": 5, EVIL: 2})])
def test_images_are_chosen_in_turn_from_every_kind(files, score, expected):
    sources = read_sources(ReportRequest("x.html", score=score, cases=2, **files))
    kinds = image_kinds(sources)
    assert {name: KINDS.index(kind) for name, kind in kinds.items()} == expected
    choice = choose(sources, [*TRUTH, "not annotated"])
    assert [kinds[name] for name in choice.ids] == list(choice.kinds)[:2]
    assert choice.among == 6
    assert choice.notes[0].startswith("2 of 6 images (--cases): in turn one ") and len(choice.notes) == 1


def test_no_name_or_id_is_markup(files, tmp_path):
    page = page_of(tmp_path, **files, title="</title><script>alert(1)</script>")
    assert "alert(1)</script>" not in page and EVIL not in page
    assert {case["id"] for case in data_of(page)["cases"]} == set(TRUTH)
    assert json.loads(embedded({"</script>": "<!--\u2028&"})) == {"</script>": "<!--\u2028&"}
    assert not re.search("[<>&\u2028]", embedded({"</script>": "<!--\u2028&"}))


def test_findings_of_any_label_set(tmp_path):
    """Also one that is unknown on an image, and names that would be markup."""
    label_set = LabelSet("own", ("</script><img src=x>", "other"))
    boxes = Predictions(np.array([[10.0, 10, 50, 60]]), np.ones(1), np.array([0]), label_set)
    records = [Record("a", "a.png", 80, 90, boxes, unknown=(1,)), Record("b", "b.png", 80, 90, Predictions(
        label_set=label_set))]
    (tmp_path / "truth.json").write_text(json.dumps(to_coco(records)))
    results = [{"image_id": "a", "category_id": label, "bbox": [10, 10, 40, 50], "score": 0.9}
               for label in range(2)]
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.arange(7200, dtype=np.uint8).reshape(80, 90))
    page = page_of(tmp_path, predictions=str(tmp_path / "results.json"), images=str(tmp_path / "images"),
                   annotations=str(tmp_path / "truth.json"))
    data = data_of(page)
    assert [of["name"] for of in data["classes"]] == list(label_set.findings) and "<img" not in page
    (case,) = data["cases"]
    assert {row[0]: row[-1] for row in case["predicted"]} == {0: 0, 1: -2} and case["normal"] is False
    assert "Findings are unknown on 1 of 2 images" in page and "voc/mAP40" in page


def test_the_page_loads_nothing(files, tmp_path):
    page = page_of(tmp_path, **files)
    assert not re.search(r'(?:src|href)="(?!#)', page) and "import " not in "".join(map(static, SCRIPTS))
    assert "default-src 'none'" in page and re.search(r"script-src 'sha256-[\w+/]{43}='", page)


def test_what_is_not_read_is_said(files, tmp_path):
    broken = tmp_path / "images"
    broken.mkdir()
    (broken / "a1.png").write_bytes(b"no picture")
    cv2.imwrite(str(broken / "d1.png"), np.arange(200 * 160, dtype=np.uint8).reshape(200, 160))
    page = page_of(tmp_path, **{**files, "images": str(broken)})
    cases = {case["id"]: case for case in data_of(page)["cases"]}
    assert cases["a1"]["noPicture"] and cases["a1"]["predicted"]  # it was read when it was predicted
    assert cases["d1"]["noPicture"] == "" and cases["d1"]["height"] == 200
    assert "All 2 images that have a file." in page
    assert "Without a file, and so not here: 4; the first is a&lt;" in page


def test_what_is_known_of_an_image(tmp_path):
    page = page_of(tmp_path, **write_odd_case(tmp_path), metrics=write_metrics(tmp_path), patients=None)
    cases = {case["id"]: case for case in data_of(page)["cases"]}
    assert {name: case["state"] for name, case in cases.items() if case["state"]} == {
        "e1": "not read", "d1": "no prediction"}
    assert cases["e1"]["predicted"] is None and cases["d1"]["predicted"] is None
    assert len(cases["c1"]["predicted"]) == 100 and cases["c1"]["truth"][0][5:] == [120, 0.35]
    assert "400 x 100 pixels" in cases["b1"]["noPicture"] and not cases["a1"]["noPicture"]
    assert [line for line in ("All 5 images that have a file.",
                              "Without a file, and so not here: 1; the first is a&",
                              "Not read, so that nothing is known of them: 1.",
                              "Not predicted, so that nothing is known of them: 1.",
                              "6 annotated images, 2 of them normal; 4 predicted.") if line not in page] == []
    options = page[page.index("<h3>Options</h3>"):]
    assert "<dt>bootstrap</dt><dd>0</dd>" in options and "<dt>seed</dt><dd>0</dd>" in options
    assert "metrics.json" not in page  # everything was measured anew


def write_metrics(folder: Path) -> str:
    (folder / "metrics.json").write_text('{"vindr/mAP40": 0.25}')
    return str(folder / "metrics.json")


@pytest.mark.parametrize("statuses, expected", [
    (None, {"a": "", "b": "no box", "c": "no box"}),
    ("a,ok\nb,ok\n", {"a": "", "b": "", "c": "no prediction"}),
    ("a,ok\nb,failed\n", {"a": "", "b": "not read", "c": "no prediction"})])
def test_coco_results_leave_out_images_without_boxes(tmp_path, statuses, expected):
    box = Predictions(np.array([[10.0, 10, 50, 60]]), np.ones(1), np.array([3]))
    truth = [Record("a", "a.png", 80, 90, box), *(Record(name, f"{name}.png", 80, 90) for name in "bc")]
    (tmp_path / "truth.json").write_text(json.dumps(to_coco(truth)))
    (tmp_path / "S.json").write_text(json.dumps(
        [{"image_id": "a", "category_id": 3, "bbox": [10, 10, 40, 50], "score": 0.9}]))
    if statuses:
        rows = "".join(f"{line},\n" for line in statuses.split())
        (tmp_path / "S.status.csv").write_text(f"image_id,status,reason\n{rows}")
    request = ReportRequest("x.html", predictions=str(tmp_path / "S.json"), annotations=str(
        tmp_path / "truth.json"))
    sources = read_sources(request)
    assert {name: sources.state(name) for name in "abc"} == expected
    right = {name for name, kind in image_kinds(sources).items() if kind == "without errors"}
    assert right == {name for name, state in expected.items() if state in ("", "no box")}
    predicted = {name: case_of(sources, name, 80, 90).data["predicted"] for name in "bc"}
    assert predicted == {name: None if expected[name].startswith("no") and expected[name] != "no box" else []
                         for name in "bc"}


@pytest.mark.parametrize("size, status, known, shown", [
    ((200, 160), "", True, True), ((100, 80), "", True, True), ((100, 100), "", True, True),
    ((100, 400), "", True, False), ((100, 400), "", False, True), ((160, 200), "200,160", False, False),
    ((100, 100), "200,160", False, True), ((100, 400), "200,200", False, False),
    ((400, 320), "", True, True)])
def test_a_picture_of_another_image_is_not_shown(tmp_path, size, status, known, shown):
    files = write_case(tmp_path)
    cv2.imwrite(str(tmp_path / "images" / "a1.png"),
                np.random.default_rng(0).integers(0, 255, size, np.uint8))
    if not known:
        Path(files["meta"]).unlink()
        del files["meta"]
    if status:
        (tmp_path / "S.status.csv").write_text(
            "image_id,status,reason,height,width\n" + "".join(
                f'"{name}",ok,,{status}\n' for name in TRUTH if name != EVIL))
    page = page_of(tmp_path, **files)
    case = next(case for case in data_of(page)["cases"] if case["id"] == "a1")
    number = [case["id"] for case in data_of(page)["cases"]].index("a1")
    picture = re.search(rf'id="picture-{number}">([^<]*)<', page).group(1)
    assert bool(picture) == shown == (case["noPicture"] == "") and case["predicted"]
    assert ("are more than the 160 x 200" in case["notice"]) == (size == (400, 320))


def test_a_picture_of_another_shape_than_a_square_is_said(tmp_path):
    box = Predictions(np.array([[10.0, 10, 50, 60]]), np.ones(1), np.array([3]))
    (tmp_path / "truth.json").write_text(json.dumps(to_coco([Record("a", "a.png", 1024, 1024, box)])))
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.arange(7200, dtype=np.uint8).reshape(80, 90))
    page = page_of(tmp_path, annotations=str(tmp_path / "truth.json"), images=str(tmp_path / "images"))
    (case,) = data_of(page)["cases"]
    assert "the file has 90 x 80 pixels, the image of the boxes 1024 x 1024" in case["notice"]
    assert not case["noPicture"] and (case["height"], case["width"]) == (1024, 1024)


def test_images_that_were_never_predicted_are_counted(files, tmp_path):
    broken = tmp_path / "images"
    broken.mkdir()
    for name in ("a1", "e1", "further"):
        (broken / f"{name}.png").write_bytes(b"no picture")
    page = page_of(tmp_path, predictions=files["predictions"], images=str(broken))
    cases = {case["id"]: case for case in data_of(page)["cases"]}
    # Of e1 there is nothing but "no finding": it is predicted, but nothing tells that it was ever read.
    assert cases["e1"]["state"] == "" and cases["e1"]["predicted"] == [] and cases["e1"]["noFinding"] == 1
    assert "PNG" in cases["e1"]["noPicture"] and "nothing tells that" in cases["e1"]["notice"]
    assert cases["a1"]["predicted"] and cases["a1"]["noPicture"] and not cases["a1"]["notice"]
    assert "Files of images that were not predicted, and so not here: 1." in page


def test_a_page_without_a_classifier_needs_no_torch(files, tmp_path):
    code = ("import sys; from vindr_det.report.build import write_report\n"
            "from vindr_det.report.request import ReportRequest\n"
            f"write_report(ReportRequest('report.html', bootstrap=0, workers=0, **{files}))\n"
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60).returncode == 0


def test_pictures_fit_their_bytes():
    noise = np.random.default_rng(0).integers(0, 255, (600, 500), np.uint8)
    assert len(Budget(10**6).encode(noise)) > 100_000
    assert len(Budget(20_000).encode(noise)) <= 20_000
    assert len(Budget(1).encode(noise)) > 1  # a smallest picture, whatever the bytes


def test_more_cases_than_fit_are_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "MAX_BYTES", 100_000)
    with pytest.raises(InputError, match="--cases 200: 6 pictures do not fit a page"):
        page_of(tmp_path, **files)
    assert not list(tmp_path.iterdir())


def test_maps_are_a_layer(files, tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    for name in ("a1.p_cardiomegaly.png", "a1.p_ild.png", "zz.p_ild.png"):
        cv2.imwrite(str(folder / name), np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))
    page = page_of(tmp_path, **files, maps=str(folder))
    cases = {case["id"]: case["maps"] for case in data_of(page)["cases"]}
    assert cases["a1"] == {"p_cardiomegaly": 6, "p_ild": 7} and not cases["b1"]
    assert re.search(r'id="picture-7">/9j/', page)
    assert find_maps(str(folder), ["a1", "a1.p_ild"])["a1"].keys() == {"p_cardiomegaly", "p_ild"}


@pytest.mark.parametrize("options, line", [
    ([], "nothing to report: expected --run, --predictions"),
    (["--run", "none"], "none: no such folder"),
    (["--run", "."], ".: holds nothing that a report shows"),
    (["--predictions", "no.csv"], "no.csv: no such file"),
    (["--predictions", "{predictions}", "--images", "none"], "none: no such file or folder"),
    (["--predictions", "{predictions}", "--images", "."], ".: "),
    (["--predictions", "{predictions}", "--score", "2"], "--score 2.0: expected 0 to 1"),
    (["--predictions", "{predictions}", "--cases", "-1"], "--cases -1: expected 0 or more"),
    (["--predictions", "{predictions}", "--side", "5"], "--side 5: expected 64 to"),
    (["--predictions", "{predictions}", "--maps", "."], "--maps: expected --images"),
    (["--predictions", "{annotations}"], "{annotations}: "),
    (["--annotations", "{predictions}"], "{predictions}: "),
    (["--classifier", "."], "metrics.json: no such file"),
    (["--training", "."], ".: has no metrics.json and no fold*_history.csv"),
    (["--gate", "list.json"], "list.json: neither a gate"),
    (["--metrics", "list.json"], "list.json: has no mAP40"),
    (["--ledger", "empty.csv"], "empty.csv: "),
    (["--predictions", "{predictions}", "--workers", "0"], "--workers: 0: expected at least 1"),
])
def test_bad_input_is_one_line(files, tmp_path, monkeypatch, options, line):
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[]")
    Path("empty.csv").write_text("trial,value\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError) as error:
        run_command("report", ["--out", "report.html", *(text.format(**files) for text in options)])
    assert line.format(**files) in str(error.value) and "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("out, line", [("report.pdf", "ends in .html"), ("folder.html", "is a folder"),
                                       ("truth.html", "is an input"), ("file/r.html", "cannot be written")])
def test_outputs_that_are_refused(files, tmp_path, monkeypatch, out, line):
    monkeypatch.chdir(tmp_path)
    Path("folder.html").mkdir()
    Path("file").write_text("")
    Path("truth.html").write_bytes(Path(files["annotations"]).read_bytes())
    with pytest.raises(InputError, match=line):
        run_command("report", ["--out", out, "--annotations", "truth.html"])


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.12345, "0.123"),
        (1234, "1,234"),
        (12345.6, "12,346"), (2e-4, "0.0002"), (-0.5, "-0.500"), (0.0, "0.000"), (float("inf"), "inf"),
        ("x", "x"),
        (True, "True"),
    ],
)
def test_cells(value, text):
    assert Cell.of(value).text == text


@pytest.mark.parametrize("points, expected", [
    ([], []), ([(0, 1), (1, float("nan")), (2, 3)], [[0, 1], [2, 3]]),
    ([(x, x) for x in range(1000)], 400)])
def test_lines_are_thinned(points, expected):
    drawn = Series("x", points, "#000000").as_json()["points"]
    assert (len(drawn) if isinstance(expected, int) else drawn) == expected
    if isinstance(expected, int):
        assert drawn[0] == [0, 0] and drawn[-1] == [999, 999]


def test_a_run_of_trainings(tmp_path):
    detector, classifier = tmp_path / "detector", tmp_path / "classifier"
    for folder in (detector, classifier):
        folder.mkdir()
        (folder / "config.yaml").write_text("MODEL: {WEIGHTS: /home/someone/secret/model.pth}\n")
    (detector / "metrics.json").write_text("\n".join(json.dumps(
        {"iteration": at, "total_loss": 2 / (at + 1), "lr": 0.1, "vindr/mAP40": at / 100,
         "vindr/AP40/ILD": at / 90}) for at in range(5)))
    (detector / "model_best.pth").write_bytes(b"weights")
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 2
    table = "\n".join(f"i{at},{at % 3},{label},{p:.4f}" for at, (label, p) in enumerate(
        zip(truth, np.clip(rng.normal(0.3 + 0.4 * truth, 0.2), 0.01, 0.99), strict=True)))
    (classifier / "oof_predictions.csv").write_text(f"image_id,fold,Effusion,p_effusion\n{table}\n")
    (classifier / "metrics.json").write_text(json.dumps({"auc": 0.9, "auc/p_effusion": 0.9}))
    (classifier / "fold0_history.csv").write_text("epoch,loss,auc,lr\n1,.7,.5,.1\n2,.6,.7,.1\n")
    (tmp_path / "ledger.csv").write_text("trial,value\n1,.25\n2,\n")
    (tmp_path / "gate.json").write_text(json.dumps(
        {"gate": {"form": "append"}, "auc": 0.9, "forms": {"append": {
            "mAP40": 0.3, "gain": 0.01, "ci95": [-0.01, 0.03], "wins": 0.8, "gate": {"form": "append"}}}}))
    page = page_of(tmp_path, run=str(tmp_path))
    assert titles(page) == [
        "Classifier",
        "Gate",
        "Training",
        "Training of the classifier",
        "Ledger",
        "Provenance",
    ]
    assert "/home/someone" not in page and hashlib.sha256(b"weights").hexdigest() in page
    roc = next(
        chart for part in data_of(page, "charts-data") for chart in part if chart and chart["title"] == "ROC"
    )
    assert roc["series"][0]["points"][0] == [0, 0] and roc["series"][0]["points"][-1] == [1, 1]


def test_a_detectors_folder_knows_what_it_was_validated_on(tmp_path):
    root, detector = tmp_path / "data", tmp_path / "detector"
    for folder in (root / "annotations", root / "train", detector):
        folder.mkdir(parents=True)
    box = Predictions(np.array([[10.0, 10, 50, 60]]), np.ones(1), np.array([3]))
    (root / "annotations/instances_val_fold0.json").write_text(json.dumps(to_coco([Record(
        "a", "a.png", 80, 90, box)])))
    cv2.imwrite(str(root / "train/a.png"), np.arange(7200, dtype=np.uint8).reshape(80, 90))
    (detector / "config.yaml").write_text(
        f"VINDR: {{VALIDATION: [vindr_val_fold0], DATA_ROOT: {root}, IMAGE_ROOT: ''}}")
    (detector / "metrics.json").write_text(
        '{"iteration": 1, "total_loss": 2, "vindr/AP40/Pneumothorax": 0.5, "vindr/AP40/Nodule/Mass": 0.4}\n')
    (detector / "best_predictions.json").write_text(json.dumps(
        [{"image_id": "a", "category_id": 3, "bbox": [10, 10, 40, 50], "score": 0.9}]))
    page = page_of(tmp_path, run=str(detector))
    assert [case["id"] for case in data_of(page)["cases"]] == ["a"]
    assert {"Scores", "Cases", "Training", "Data"} <= set(titles(page))
    chart = next(chart for part in data_of(page, "charts-data") for chart in part
                 if chart and chart.get("y") == "AP" and "series" in chart)
    assert {line["name"]: line["color"] for line in chart["series"]} == {
        name: code_of(VINBIGDATA.findings.index(name)) for name in ("Nodule/Mass", "Pneumothorax")}
    # What the run was scored with says nothing about other predictions.
    (tmp_path / "other.json").write_text("[]")
    assert titles(page_of(tmp_path, run=str(detector), predictions=str(tmp_path / "other.json"))) == [
        "Training", "Provenance"]


def test_the_command(files, tmp_path, capsys):
    run_command("report", ["--out", str(tmp_path / "r.html"), "--bootstrap", "0", "--workers", "1",
                           *(word for name, file in files.items() for word in (f"--{name}", file))])
    printed = capsys.readouterr()
    assert printed.out.strip().endswith("6 of 6 images") and "MB; open it in a browser" in printed.err
    odd = write_odd_case(tmp_path)
    run_command("report", ["--out", str(tmp_path / "r.html"), "--bootstrap", "0", "--workers", "1",
                           *(word for name, file in odd.items() for word in (f"--{name}", file))])
    assert capsys.readouterr().out.strip().endswith("5 of 5 images; images without a file: 1")


def test_no_script_is_half_a_line():
    """Every script is named in the list of the page, and none is empty."""
    present = {path.name for path in (ROOT / "vindr_det/report/static").glob("*.js")}
    assert present == set(SCRIPTS) and all(static(name).strip() for name in SCRIPTS)
