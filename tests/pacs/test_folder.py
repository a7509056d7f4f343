"""vindr-det dicom-out: the predictions of a run to objects in a folder."""

import csv
import importlib.util
import json
import shutil

import pydicom
import pytest
from pacs_files import BOXES, in_hospital, report

from vindr_det.commands import dicom_out, listen
from vindr_det.exceptions import InputError
from vindr_det.pacs.structured_report import boxes_of
from vindr_det.submission.image_report import read_reports

UIDS = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), "1.2")


@pytest.fixture
def archive(phantoms, tmp_path):
    """Four images, two in a folder below; one has no study, another was changed after its prediction."""
    folder = tmp_path / "archive"
    (folder / "below").mkdir(parents=True)
    reports = []
    for number, (source, name) in enumerate(zip(sorted((phantoms / "raw/test").iterdir()), (
            "a.dcm", "below/b.dcm", "below/none.dcm", "changed.dcm"), strict=False)):
        study = {"StudyInstanceUID": None} if "none" in name else {}
        dataset = pydicom.dcmread(in_hospital(source, folder / name, number, **study))
        uid = "1.2.3" if "changed" in name else str(dataset.SOPInstanceUID)
        status, reason = ("failed", "cut") if "b.dcm" in name else ("ok", "")
        reports.append(report(status, reason=reason, image_id=name.removesuffix(".dcm").replace("/", "_"),
                              file=name, SOPInstanceUID=uid, StudyInstanceUID="", SeriesInstanceUID=""))
    (tmp_path / "S.predictions.json").write_text(json.dumps({"version": 1, "images": reports}))
    return tmp_path


def run(folder, *more):
    return dicom_out.main(["--predictions", str(folder / "S.predictions.json"), "--images",
                           str(folder / "archive"), "--out", str(folder / "out"), *more])


def test_each_image_has_objects_or_a_reason(archive):
    assert run(archive) == 0
    rows = {row["file"]: row for row in csv.DictReader((archive / "out/objects.csv").open())}
    assert list(rows) == ["a.dcm", "below/b.dcm", "below/none.dcm", "changed.dcm"]
    assert rows["a.dcm"]["objects"] == "a.sc.dcm a.sr.dcm a.pr.dcm"
    assert rows["below/b.dcm"]["objects"] == "below_b.sr.dcm"
    assert "has no StudyInstanceUID" in rows["below/none.dcm"]["reason"]
    assert "another image was predicted" in rows["changed.dcm"]["reason"]
    assert sorted(path.name for path in (archive / "out").iterdir()) == [
        "a.pr.dcm", "a.sc.dcm", "a.sr.dcm", "below_b.sr.dcm", "objects.csv"]
    assert len(boxes_of(pydicom.dcmread(archive / "out/a.sr.dcm"))) == 2


def test_the_same_predictions_give_the_same_files(archive):
    run(archive)
    first = {path.name: path.read_bytes() for path in (archive / "out").iterdir()}
    shutil.rmtree(archive / "out")
    run(archive)
    assert {path.name: path.read_bytes() for path in (archive / "out").iterdir()} == first


def test_kinds_score_and_algorithm(archive):
    run(archive, "--kinds", "sr", "--score", "0.05", "--algorithm", "our model", "--algorithm-version", "7")
    dataset = pydicom.dcmread(archive / "out/a.sr.dcm")
    assert len(boxes_of(dataset)) == 3 and not list((archive / "out").glob("*.sc.dcm"))
    assert (dataset.ManufacturerModelName, dataset.DeviceSerialNumber) == ("our model", "7")


@pytest.mark.parametrize("changes, message", [
    ({"version": 2}, "no S.predictions.json of version 1"), ({"images": {}}, "no S.predictions.json"),
    ({"images": []}, "none of 0 images has an answer"),
    ({"images": 2 * [report(**UIDS)]}, r"images\[1\]: image_id 'a' is that of an image before it"),
    ({"images": [3]}, r"images\[0\]: 3, expected an object"),
    ({"images": [report()]}, r"images\[0\]: StudyInstanceUID None, expected a text"),
])
def test_predictions_that_are_none(archive, changes, message):
    path = archive / "S.predictions.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message):
        run(archive)
    assert not list((archive / "out").glob("*.dcm"))


@pytest.mark.parametrize("image, message", [
    ({"status": "fine"}, "status 'fine', expected ok, flagged or failed"),
    ({"status": "failed"}, "boxes of an image that failed, expected null"),
    ({"boxes": 5}, "boxes 5, expected a list"),
    ({"boxes": [{"class_id": 1}]}, "box {'class_id': 1}, expected class_id, class_name"),
    ({"boxes": [BOXES[0] | {"score": 2}]}, "expected class_id, class_name, score"),
    ({"boxes": [BOXES[0] | {"x_max": 0}]}, "x_min, y_min, x_max, y_max in order"),
    ({"boxes": [BOXES[0] | {"class_id": True}]}, "expected class_id"),
])
def test_images_that_were_written_by_somebody_else(archive, image, message):
    path = archive / "S.predictions.json"
    content = json.loads(path.read_text())
    content["images"][0] |= image
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_reports(path)


def test_predictions_of_a_run_are_read(archive):
    assert [image["status"] for image in read_reports(archive / "S.predictions.json")] == [
        "ok", "failed", "ok", "ok"]


@pytest.mark.parametrize("options, message", [
    (["--score", "2"], "--score 2.0: expected a number from 0 to 1"),
    (["--algorithm-version", "1\\2"], "--algorithm-version '1.*2': expected 1 to 64 characters"),
    (["--algorithm", "a\nb"], "expected 1 to 64 characters in one line"),
    (["--images", "none"], "none: no such folder"), (["--kinds", "pdf"], "invalid choice")])
def test_options_that_are_wrong(archive, options, message):
    with pytest.raises(InputError, match=message):
        run(archive, *options)
    assert not (archive / "out").exists()


def test_an_image_id_that_leaves_the_folder(archive):
    path = archive / "S.predictions.json"
    path.write_text(path.read_text().replace('"image_id": "a"', '"image_id": "../../a"'))
    run(archive)
    assert not list(archive.glob("*.dcm")) and not (archive / "out/a.sr.dcm").exists()


@pytest.mark.parametrize("changes, objects, reason", [
    ({"image_id": 300 * "x"}, "", "image_id of 300 characters: its files' names would be too long"),
    ({"image_id": "\udc80\ud800"}, "", "expected a file's name"),
    ({"height": 7, "width": 9}, "", r"pixels, expected 7 x 9: another image was predicted"),
    ({"boxes": [BOXES[0] | {"x_min": 9000.0, "x_max": 9001.0}]}, "a.sc.dcm a.sr.dcm",
     "1 box outside the image left out")])
def test_odd_images_do_not_end_the_run(archive, changes, objects, reason):
    path = archive / "S.predictions.json"
    content = json.loads(path.read_text())
    content["images"][0] |= changes
    path.write_text(json.dumps(content))
    assert run(archive) == 0
    rows = list(csv.DictReader((archive / "out/objects.csv").open()))
    assert rows[0]["objects"] == objects and reason in rows[0]["reason"]
    assert rows[1]["objects"] == "below_b.sr.dcm"


def test_an_image_that_was_not_read_has_a_report_whatever_the_kinds(archive):
    run(archive, "--kinds", "pr")
    rows = list(csv.DictReader((archive / "out/objects.csv").open()))
    assert [row["objects"] for row in rows[:2]] == ["a.pr.dcm", "below_b.sr.dcm"]


@pytest.mark.parametrize("missing", ["highdicom", "pynetdicom", "dicomweb_client"])
def test_a_missing_library_is_named(archive, monkeypatch, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr("vindr_det.pacs.libraries.find_spec",
                        lambda name: None if name == missing else real(name))
    name = missing.replace("_", "-")
    with pytest.raises(InputError, match=f"{missing} is not installed; pip install {name}"):
        listen.main(["--bundle", "phantom", "--stow", "http://x", "--state", str(archive / "state")])
    assert not (archive / "state").exists()


@pytest.mark.parametrize("options, message", [
    ([], "no destination is given, expected --send, --stow or --out"),
    (["--send", "PACS"], "--send PACS: expected AET@host:port"),
    (["--stow", "pacs"], "--stow pacs: expected a URL"),
    (["--out", "o", "--port", "70000"], "--port 70000: expected 0 to 65535"),
    (["--out", "o", "--aet", "A TITLE OF MORE THAN 16"], "expected an AE title of 1 to 16 letters"),
    (["--out", "o", "--watch", "none"], "--watch none: no such folder"),
    (["--out", "o", "--timeout", "0"], "--timeout 0: expected 1 or more"),
    (["--out", "o", "--score", "-1"], "--score -1.0: expected"),
    (["--out", "o", "--bundle", "none"], "none: no such"),
])
def test_services_that_cannot_start(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        listen.main(["--bundle", "phantom", *options])
    assert not list(tmp_path.iterdir())
