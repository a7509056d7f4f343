"""One bad file of a run is one row, whatever is wrong with it."""

import gc
import os
import shutil
import signal
import struct
import weakref
import zlib
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from crashing import Name, crash_on_b, hang, never_end, raise_by_name

from vindr_det import parallel
from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.imaging import image_run
from vindr_det.imaging.prepare import prepare_folder
from vindr_det.imaging.resize import Target
from vindr_det.parallel import Failure, in_order, reason_of


def scene(tmp_path, phantoms):
    """A good DICOM, a CT, and files that each fail in another way."""
    source = sorted((phantoms / "raw/test").iterdir())[0]
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(source, folder / "good.dicom")
    ct = pydicom.dcmread(source)
    ct.Modality, ct.StudyInstanceUID, ct.SeriesInstanceUID = "CT", "1.2.3", "1.2.3.4"
    ct.save_as(folder / "ct.dicom")
    whole = (folder / "ct.dicom").read_bytes()
    (folder / "cut.dicom").write_bytes(whole[: whole.index(b"\xe0\x7f\x10\x00") + 200])
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / "huge.png").write_bytes(huge_png(40_000))
    (folder / "folder.png").mkdir()
    (folder / "film.tif").write_bytes(b"II*\0")
    cv2.imwrite(str(folder / "flat.png"), np.full((300, 300), 7, np.uint8))
    os.mkfifo(folder / "fifo.png")
    noise = np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8)
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    return folder


def huge_png(side: int) -> bytes:
    """A PNG whose header claims more pixels than OpenCV takes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


@pytest.mark.timeout(120)
def test_a_row_for_each_input_and_the_reason(phantoms, tmp_path):
    run = image_run.find(scene(tmp_path, phantoms))
    looked = list(image_run.read_all(run, workers=1))
    rows = {result.status.image_id: result for result in looked}
    assert [result.status.image_id for result in looked] == [source.image_id for source in run.inputs]
    read = {"good", "ct", "caf\\udce9"}
    assert {name for name, result in rows.items() if result.image is not None} == read
    assert {name for name, result in rows.items() if result.status.status == "failed"} == set(rows) - read
    reasons = {name: row.status.reason for name, row in rows.items()}
    assert "modality CT is not radiography" in reasons["ct"] and rows["ct"].status.status == "flagged"
    for name, outputs in [("broken", "cannot be decoded as PNG"), ("film", "TIF is not read"),
                        ("folder", "is a folder"), ("fifo", "is a FIFO"), ("huge", "pixels"),
                        ("flat", "it shows nothing")]:
        assert outputs in reasons[name], reasons[name]
    assert all(str(tmp_path) not in reason and "\n" not in reason for reason in reasons.values())
    # A file whose pixels are damaged still tells whose it is.
    assert rows["cut"].status.uids["StudyInstanceUID"] == "1.2.3" and rows["cut"].image is None
    assert rows["ct"].status.uids["SeriesInstanceUID"] == "1.2.3.4"
    assert (rows["good"].status.height, rows["good"].status.width) == rows["good"].image.pixels.shape


def test_what_preparation_knew_comes_along(tmp_path):
    """A CT is a CT also as PNG; a file that could not be prepared is an input that failed."""
    noise = np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8)
    for name in ("ct", "film"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), noise)
    write_text(tmp_path / "qc.csv", "image_id,file,status,reason,StudyInstanceUID\n"
               "ct,ct.dcm,flagged,modality CT is not radiography,1.2\nfilm,f.dcm,ok,,1.3\n"
               "lost,lost.dcm,failed,holds no pixel data,1.4\n")
    looked = image_run.read_all(image_run.find(tmp_path), workers=1)
    rows = {result.status.image_id: result.status for result in looked}
    assert {name: row.status for name, row in rows.items()} == {
        "ct": "flagged", "film": "ok", "lost": "failed"}
    assert rows["ct"].reason == "modality CT is not radiography"
    assert rows["lost"].reason == "was not prepared: holds no pixel data"
    assert [rows[name].uids["StudyInstanceUID"] for name in ("ct", "film", "lost")] == ["1.2", "1.3", "1.4"]
    assert [source.image_id for source in image_run.find(tmp_path / "ct.png").inputs] == ["ct"]


def test_a_damaged_qc_table_is_logged_and_costs_nothing_else(tmp_path, caplog):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "qc.csv").write_bytes(b"")
    assert [source.image_id for source in image_run.find(tmp_path).inputs] == ["a"]
    assert "the report of the preparation cannot be read" in caplog.text


def test_only_problems_need_no_reader(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    run = image_run.find(tmp_path)
    assert run.readable == []
    assert [(result.status, result.reason) for result in run.statuses_if_none_readable()] == [
        ("failed", "is a FIFO, expected a file")]
    (tmp_path / "b.png").write_bytes(b"x")
    assert image_run.find(tmp_path).statuses_if_none_readable() == []


@pytest.mark.parametrize("workers, ahead", [(1, 1), (2, 4)])
def test_in_order_also_when_a_process_dies(workers, ahead):
    results = list(in_order(crash_on_b, list("abcdef"), workers, ahead))
    assert [item for item, _ in results] == list("abcdef")
    assert [result for _, result in results if not isinstance(result, Failure)] == list("ACDEF")
    assert results[1][1] == Failure("its decoder crashed or did not end")
    assert list(in_order(crash_on_b, [], workers, ahead)) == []


def test_every_exception_of_an_item_is_its_own():
    """In the processes of a pool, under the names that a decoder, a disk and a system use."""
    names = ["cv2", "memory", "permission", "unicode", "input", "fine"]
    with parallel.local_runner(1, len(names)) as run:
        results = dict(run(raise_by_name, names))
    assert results.pop("fine") == "fine"
    assert all(isinstance(result, Failure) for result in results.values())
    assert results["memory"].reason == "not enough memory (for a test)"
    assert results["permission"].reason == "cannot be read (Permission denied)"
    assert results["input"].reason == "x.png: one line"
    assert results["cv2"].reason.startswith("error: ") and "\n" not in results["cv2"].reason
    assert results["unicode"].reason.startswith("UnicodeEncodeError: ")


def test_reasons_are_one_line():
    assert reason_of(InputError("a\n  b")) == "a b" and reason_of(KeyError("x")) == "KeyError: 'x'"
    assert reason_of(MemoryError()) == "not enough memory"


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="the system has no alarms")
def test_a_file_that_hangs_is_a_row():
    """Its process is ended by an alarm, which :func:`crashing.hang` brings forward."""
    assert parallel.run_alone(hang, "x") == Failure("its decoder crashed or did not end")


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="the system has no alarms")
def test_an_only_item_has_its_time_but_once(tmp_path):
    notes = str(tmp_path / "notes")
    assert list(in_order(never_end, [notes], 1, 1, 1)) == [
        (notes, Failure("its decoder crashed or did not end"))]
    assert Path(notes).read_text() == "began "


def test_an_item_that_crashed_is_not_held_in_memory():
    gc.disable()  # what a cycle holds may wait for long
    try:
        name = Name("b")
        held = weakref.ref(name)
        assert [result for _, result in in_order(crash_on_b, [name], 1, 1)] == [
            Failure("its decoder crashed or did not end")]
        del name
        assert held() is None
    finally:
        gc.enable()


def _statuses(folder, recursive=False):
    """image id -> status and reasons, as a prediction run has them."""
    results = image_run.read_all(image_run.find(folder, recursive), Target(256, False), workers=2)
    return {result.status.image_id: (result.status.status, result.status.reason) for result in results}


def test_preparation_and_prediction_judge_alike(tmp_path):
    """By the original's size, whatever the pictures' size; and a flag is not repeated."""
    rng = np.random.default_rng(0)
    lungs = np.full((400, 400), 60, np.uint8)
    lungs[:, 160:240] = 200
    for name, image in {"small": rng.integers(0, 255, (150, 160)), "long": rng.integers(0, 255, (900, 300)),
                        "inverted": 255 - lungs, "good": lungs}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image.astype(np.uint8))
    expected = {"small": ("flagged", "only 160 x 150 pixels"), "good": ("ok", ""),
                "long": ("flagged", "3.0 times as long as wide"),
                "inverted": ("flagged", "looks inverted: lungs brighter than the mediastinum")}
    table = prepare_folder(tmp_path, tmp_path / "prepared", Target(128, False), 1).set_index("image_id")
    assert {name: (row.status, row.reason) for name, row in table.iterrows()} == expected
    assert _statuses(tmp_path) == expected == _statuses(tmp_path / "prepared")


def test_the_flags_of_real_and_damaged_files(data, tmp_path):
    table = prepare_folder(data / "dicom_cases", tmp_path, Target(256, True), 2, recursive=True)
    prepared = {row.image_id: (row.status, row.reason) for row in table.itertuples()}
    statuses = _statuses(data / "dicom_cases", recursive=True)
    assert {name: result for name, result in prepared.items() if result[0] == "flagged"} == {
        name: result for name, result in statuses.items() if result[0] == "flagged"}
    assert sum(result[0] == "flagged" for result in statuses.values()) == 12


@pytest.mark.parametrize("file, original, flagged", [
    ((300, 240), (300, 240), False), ((300, 240), (600, 480), False), ((300, 300), (600, 480), False),
    ((300, 300), (360, 280), False),  # a square that was squashed along one side
    ((300, 240), (290, 232), True), ((300, 300), (290, 250), True),
])
def test_a_file_is_not_larger_than_its_original(tmp_path, file, original, flagged):
    noise = np.random.default_rng(0).integers(0, 255, file, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    write_text(tmp_path / "meta.csv", f"image_id,dim0,dim1\na,{original[0]},{original[1]}\n")
    status, reason = _statuses(tmp_path)["a"]
    expected = (f"the file's {file[1]} x {file[0]} pixels are more than the {original[1]} x {original[0]} "
                "that the original is said to have")
    assert (status, reason) == (("flagged", expected) if flagged else ("ok", ""))


def test_a_preparation_may_enlarge(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 260), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    prepare_folder(tmp_path, tmp_path / "prepared", Target(512, False), 1)
    assert _statuses(tmp_path / "prepared") == {"a": ("ok", "")}
