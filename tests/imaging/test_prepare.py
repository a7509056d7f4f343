import os
import random
import shutil
import signal
import subprocess
import sys
import time

import cv2
import dicom_samples
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, one_line
from crashing import crash_on_b

from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.packed import PackedImages
from vindr_det.imaging.prepare import prepare_folder, summary
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target
from vindr_det.imaging.sizes import read_sizes
from vindr_det.parallel import Failure, local_runner
from vindr_det.tables import read_own_csv

SMALL = Target(64, True)


def assert_same(folder, other):
    """Two folders hold the same files, byte for byte, hidden ones too."""
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in other.iterdir())
    for path in folder.iterdir():
        assert (other / path.name).read_bytes() == path.read_bytes(), path.name


def test_sizes_are_the_originals_and_images_the_prepared(phantoms, tmp_path):
    table = prepare_folder(phantoms / "raw/test", tmp_path / "out", SMALL, 1)
    meta = pd.read_csv(tmp_path / "out/meta.csv", dtype={"image_id": str})
    expected = pd.read_csv(phantoms / "raw/test_meta.csv").sort_values("image_id")
    assert meta.sort_values("image_id").to_numpy().tolist() == expected.to_numpy().tolist()
    assert table["reason"].str.fullmatch(r"only \d+ x \d+ pixels").all()
    for image_id in meta["image_id"]:
        assert max(read_image(tmp_path / f"out/{image_id}.png").pixels.shape) == 64


def test_a_broken_file_is_one_row_and_stops_nothing(phantoms, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    source = next((phantoms / "raw/test").glob("*.dicom"))
    (folder / source.name).write_bytes(source.read_bytes())
    (folder / "broken.dicom").write_bytes(source.read_bytes()[:700])
    table = prepare_folder(folder, tmp_path / "out", SMALL, 2)
    rows = table.set_index("image_id")
    assert rows.loc["broken", "status"] == "failed" and rows.loc["broken", "reason"]
    assert str(tmp_path) not in rows.loc["broken", "reason"]
    assert rows.loc[source.stem, "status"] == "flagged"  # small
    assert len(pd.read_csv(tmp_path / "out/meta.csv")) == 1
    assert summary(table).startswith("0 ok, 1 flagged, 1 failed") and "broken.dicom" in summary(table)


def test_resume_redoes_only_what_is_missing_and_ends_the_same(phantoms, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for out in (whole, resumed):
        prepare_folder(phantoms / "raw/test", out, SMALL, 1)
    gone, cut, *others = sorted(resumed.glob("*.png"))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-5])
    (resumed / ".partial-abc.png").write_bytes(b"half")
    kept = {path: path.stat().st_mtime_ns for path in others}
    prepare_folder(phantoms / "raw/test", resumed, SMALL, 1, resume=True)
    assert {path: path.stat().st_mtime_ns for path in others} == kept
    assert_same(whole, resumed)


def test_a_run_makes_sure_of_its_source(phantoms, tmp_path):
    """A changed file is done again, a gone one leaves nothing, and another folder is refused."""
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(phantoms / "raw/test", source)
    first, second, third, *others = sorted(source.iterdir())
    assert (prepare_folder(source, out, SMALL, 1)["status"] == "flagged").all()
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    first.write_bytes(others[0].read_bytes())  # changed
    second.write_bytes(b"broken")
    third.unlink()
    rows = prepare_folder(source, out, SMALL, 1, resume=True).set_index("image_id")
    assert rows.loc[second.stem, "status"] == "failed" and third.stem not in rows.index
    assert {path.stem for path in out.glob("*.png")} == {first.stem, *(path.stem for path in others)}
    assert (out / f"{first.stem}.png").read_bytes() == before[f"{others[0].stem}.png"]
    for resume in (True, False):
        with pytest.raises(InputError, match="made with .*choose another --out$"):
            prepare_folder(phantoms / "raw/train", out, SMALL, 1, resume=resume)
    assert len(list(out.glob("*.png"))) == 1 + len(others)


@pytest.mark.parametrize("left", [b"", b"nothing\n", b"\xff\xfe\x00", b"image_id,status\n"])
def test_resume_after_a_damaged_qc_table(phantoms, tmp_path, left):
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(sorted((phantoms / "raw/test").iterdir())[0], source)
    whole = prepare_folder(source, tmp_path / "out", SMALL, 1)
    (tmp_path / "out/qc.csv").write_bytes(left)
    (tmp_path / "out/qc.partial.jsonl").write_text('5\n{}\n{"image_id": "x"')
    assert prepare_folder(source, tmp_path / "out", SMALL, 1, resume=True).equals(whole)


def test_names_that_tables_and_disks_do_not_like(tmp_path):
    """NA and null come back as ids; bytes that are no UTF-8 and 251 characters are rows like all others."""
    noise = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (80, 80), np.uint8))[1].tobytes()
    source = tmp_path / "in"
    source.mkdir()
    long = "1." * 126  # without a suffix, so that .png makes its name 256 bytes long
    for name in ("NA.png", "null.png", "nan.png", "007.png", os.fsdecode(b"caf\xe9.png"), "a,b \"c\".png"):
        (source / name).write_bytes(noise)
    (source / long).write_bytes(bytes(128) + b"DICM")
    dicom_samples.write(source / long, np.arange(6400, dtype=np.uint16).reshape(80, 80) % 4096)
    table = prepare_folder(source, tmp_path / "out", SMALL, 1)
    rows = table.set_index("image_id")
    assert rows.loc[long, "status"] == "failed" and "File name too long" in rows.loc[long, "reason"]
    names = {"NA", "null", "nan", "007", "caf\\udce9", 'a,b "c"'}
    assert set(read_sizes(tmp_path / "out/meta.csv").index) == names
    assert {row["image_id"] for row in read_own_csv(tmp_path / "out/qc.csv", ["image_id"])} == {*names, long}
    assert set(list_images(tmp_path / "out")) == names
    again = prepare_folder(source, tmp_path / "out", SMALL, 1, resume=True)
    assert again.equals(table)


def test_resume_refuses_other_settings(phantoms, tmp_path):
    prepare_folder(phantoms / "raw/test", tmp_path, SMALL, 1)
    with pytest.raises(InputError, match="made with"):
        prepare_folder(phantoms / "raw/test", tmp_path, Target(32, True), 1, resume=True)


@pytest.mark.parametrize("make, message", [
    (lambda p: p / "nowhere", "no such folder"),
    (lambda p: p, "holds no image"),
])
def test_empty_input(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        prepare_folder(make(tmp_path), tmp_path / "out", SMALL)


def test_an_archives_folders_and_names(phantoms, tmp_path):
    """DICOM files without a suffix, named by a UID, in folders; what is no image is left alone."""
    first, second, third, *_ = sorted((phantoms / "raw/test").iterdir())
    root = tmp_path / "in"
    for source, name in ((first, "study/IM0001"), (second, "study/more/1.2.840.10008"), (third, "a.dcm"),
                         (third, "DICOMDIR")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(source.read_bytes())
    (root / "notes.txt").write_text("nothing")
    table = prepare_folder(root, tmp_path / "out", SMALL, 1, recursive=True)
    assert dict(zip(table["image_id"], table["file"], strict=True)) == {
        "a": "a.dcm", "IM0001": "study/IM0001", "1.2.840.10008": "study/more/1.2.840.10008"}
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        "a.png", "IM0001.png", "1.2.840.10008.png"}
    assert len(prepare_folder(root, tmp_path / "flat", SMALL, 1)) == 1
    (root / "more").mkdir()
    (root / "more/a.png").write_bytes(b"x")
    (root / "more/IM0001").write_bytes(first.read_bytes())
    rows = prepare_folder(root, tmp_path / "out", SMALL, 1, recursive=True).set_index("file")
    assert rows["image_id"].to_dict() == {
        "a.dcm": "a", "more/a.png": "more_a", "study/IM0001": "study_IM0001", "more/IM0001": "more_IM0001",
        "study/more/1.2.840.10008": "1.2.840.10008"}
    assert rows["status"].value_counts().to_dict() == {"flagged": 4, "failed": 1}
    # The second run calls IM0001 otherwise: no picture of the first is left beside its own.
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {
        "a", "study_IM0001", "more_IM0001", "1.2.840.10008"}
    with pytest.raises(InputError, match="--out is among the originals"):
        prepare_folder(root / "study", root / "study/out", SMALL, 1, recursive=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_takes_its_process_down_costs_only_itself(workers):
    with local_runner(workers, 6) as run:
        result = dict(run(crash_on_b, list("abcdef")))
    crashed = Failure("its decoder crashed or did not end")
    assert result == {"a": "A", "b": crashed, "c": "C", "d": "D", "e": "E", "f": "F"}


def command(source, out, *more):
    return [sys.executable, str(ROOT / "tools/prepare_images.py"), "--images", str(source), "--out",
            str(out), "--size", "64", "--keep-aspect", *more]


@pytest.mark.exhaustive
def test_killed_twenty_times_it_ends_as_if_never(phantoms, tmp_path):
    source = phantoms / "raw/train"
    takes = []
    for _ in range(2):
        began = time.perf_counter()
        subprocess.run(command(source, tmp_path / "whole"), check=True, capture_output=True)
        takes.append(time.perf_counter() - began)
    moments, kills = random.Random(0), 0
    while kills < 20:
        out = tmp_path / str(kills)
        run = subprocess.Popen(command(source, out, "--resume"), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.3, 1) * min(takes))
        run.kill()
        if run.wait() != -signal.SIGKILL:
            shutil.rmtree(out)
            continue  # it had ended already
        kills += 1
        subprocess.run(command(source, out, "--resume"), check=True, capture_output=True)
        assert_same(tmp_path / "whole", out)


@pytest.mark.slow
def test_workers_end_with_their_parent(phantoms, tmp_path):
    run = subprocess.Popen(command(phantoms / "raw/train", tmp_path / "out"), start_new_session=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "out/qc.partial.jsonl").exists():
        time.sleep(0.02)
    time.sleep(0.5)
    run.kill()
    run.wait()
    for _ in range(100):
        if not subprocess.run(["pgrep", "-g", str(run.pid)], capture_output=True).stdout:
            return
        time.sleep(0.1)
    pytest.fail("worker processes outlive the run")


def test_strict_and_packed(tool, phantoms, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in sorted((phantoms / "raw/test").iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.dcm").write_bytes(b"nothing")
    args = ["--images", folder, "--out", tmp_path / "out", "--size", "48", "--pack"]
    assert tool("prepare_images.py", *args, "--workers", "1").returncode == 0
    result = tool("prepare_images.py", *args, "--resume", "--strict")
    assert result.returncode == 1 and "broken.dcm: not a DICOM file" in result.stdout
    packed = PackedImages(tmp_path / "out/packed.npy")
    assert list(packed) == pd.read_csv(tmp_path / "out/meta.csv")["image_id"].tolist()
    for image_id, pixels in packed.items():
        assert np.array_equal(pixels, read_image(tmp_path / f"out/{image_id}.png").pixels)
        assert pixels.shape == (48, 48)


@pytest.mark.parametrize("more, message", [
    (["--workers", "0"], "--workers: 0: expected at least 1"),
    (["--size", "8"], "--size 8: expected at least 16"),
    (["--dask", "127.0.0.1:1"], "--dask 127.0.0.1:1: no scheduler answers"),
    (["--dask", "nonsense"], "--dask nonsense: no scheduler answers"),
])
def test_refusals(tool, phantoms, tmp_path, more, message):
    if "--dask" in more:
        pytest.importorskip("distributed")
    result = tool("prepare_images.py", "--images", phantoms / "raw/test", "--out",
                  tmp_path / "out", *more)
    assert message in one_line(result)
    assert not list(tmp_path.glob("out/*.png"))


@pytest.mark.parametrize("make, message", [
    (lambda p: p / "out", "out: is a file, expected a folder"),
    (lambda p: p / "out/below", "expected a folder"),
])
def test_out_that_is_a_file(phantoms, tmp_path, make, message):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=message):
        prepare_folder(phantoms / "raw/test", make(tmp_path), SMALL, 1)
    assert (tmp_path / "out").read_text() == "mine"


def test_nothing_that_can_be_read_is_no_success(tool, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"x")
    (tmp_path / "in/b.tif").write_bytes(b"II*")
    line = one_line(tool("prepare_images.py", "--images", tmp_path / "in", "--out", tmp_path / "out"))
    assert "none of 2 images can be read" in line and "qc.csv has the reasons" in line
    rows = read_own_csv(tmp_path / "out/qc.csv", ["image_id", "status"])
    assert [(row["image_id"], row["status"]) for row in rows] == [("a", "failed"), ("b", "failed")]


@pytest.mark.parametrize("content, message", [
    (None, "no such file"), (b"nothing", "not a packed file"),
])
def test_packed_refuses_other_files(tmp_path, content, message):
    if content is not None:
        (tmp_path / "p.npy").write_bytes(content)
    with pytest.raises(InputError, match=message):
        PackedImages(tmp_path / "p.npy")


def test_resume_after_a_damaged_log(phantoms, tmp_path):
    left = [b"\xff\xfe\x00", b'\xe9', b'{"image_id": "x", "status": "ok"}', b"[" * 9999,
            b'{"image_id": 5, "status": []}', bytes(4000), b'{"image_id": "../x", "status": "ok"}']
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(sorted((phantoms / "raw/test").iterdir())[0], source)
    whole = prepare_folder(source, out, SMALL, 1)
    rows = (out / "qc.csv").read_bytes()
    (out / "qc.partial.jsonl").write_bytes(b"\n".join(left))
    assert prepare_folder(source, out, SMALL, 1, resume=True).equals(whole)
    assert (out / "qc.csv").read_bytes() == rows and not (out / "qc.partial.jsonl").exists()


def test_a_log_names_files_of_its_folder_alone(phantoms, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    shutil.copy(sorted((phantoms / "raw/test").iterdir())[0], source)
    (tmp_path / "mine.png").write_bytes(b"mine")
    (out / "qc.csv").write_text("image_id,status\n../mine,ok\n\0,ok\n")
    prepare_folder(source, out, SMALL, 1)
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


@pytest.mark.parametrize("left", [b"", b"5"])
def test_damaged_settings_end_a_resume_alone(phantoms, tmp_path, left):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(sorted((phantoms / "raw/test").iterdir())[0], source)
    whole = prepare_folder(source, out, SMALL, 1)
    (out / "prepare.json").write_bytes(left)
    with pytest.raises(InputError, match="prepare.json: .*leave --resume away"):
        prepare_folder(source, out, SMALL, 1, resume=True)
    assert prepare_folder(source, out, SMALL, 1).equals(whole)


def test_resume_sees_a_picture_whose_inside_is_lost(phantoms, tmp_path):
    """A machine that loses power can leave zeros between a file's beginning and its end."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for path in sorted((phantoms / "raw/test").iterdir())[:2]:
        shutil.copy(path, source)
    prepare_folder(source, out, SMALL, 1)
    lost, kept = sorted(out.glob("*.png"))
    whole, since = lost.read_bytes(), kept.stat().st_mtime_ns
    for start, end in ((100, len(whole) - 100), (8, 40), (len(whole) - 20, len(whole) - 12)):
        lost.write_bytes(whole[:start] + bytes(end - start) + whole[end:])
        prepare_folder(source, out, SMALL, 1, resume=True)
        assert lost.read_bytes() == whole and kept.stat().st_mtime_ns == since


@pytest.mark.skipif(not os.path.lexists("/dev/full"), reason="the system has no full disk")
def test_a_full_disk_is_one_line_that_names_the_log(tmp_path):
    from pathlib import Path

    from vindr_det.imaging.inputs import Input
    from vindr_det.imaging.prepare import _run

    source = Input("a", "a.png", Path("a.png"))
    (tmp_path / "qc.partial.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"qc.partial.jsonl: cannot be written \(No space left on device\)"):
        list(_run(lambda _, items: [(item, {"image_id": "a"}) for item in items], None, [source], tmp_path))
