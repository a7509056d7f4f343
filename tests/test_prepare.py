import pandas as pd
import pytest

from vindr_det.errors import InputError
from vindr_det.images import read_image
from vindr_det.prepare import Settings, prepare_folder


def test_sizes_are_the_originals_and_images_the_prepared(phantoms, tmp_path):
    table = prepare_folder(phantoms / "raw/test", tmp_path / "out", Settings(64, True), 1)
    meta = pd.read_csv(tmp_path / "out/meta.csv")
    expected = pd.read_csv(phantoms / "raw/test_meta.csv").sort_values("image_id")
    assert meta.sort_values("image_id").to_numpy().tolist() == expected.to_numpy().tolist()
    assert (table["status"] == "ok").all()
    for image_id in meta["image_id"]:
        assert max(read_image(tmp_path / f"out/{image_id}.png").pixels.shape) == 64


def test_a_broken_file_is_one_row_and_stops_nothing(phantoms, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    source = next((phantoms / "raw/test").glob("*.dicom"))
    (folder / source.name).write_bytes(source.read_bytes())
    (folder / "broken.dicom").write_bytes(source.read_bytes()[:700])
    table = prepare_folder(folder, tmp_path / "out", Settings(64, True), 2).set_index("image_id")
    assert table.loc["broken", "status"] == "failed" and table.loc["broken", "reason"]
    assert table.loc[source.stem, "status"] == "ok"
    assert len(pd.read_csv(tmp_path / "out/meta.csv")) == 1


def test_resume_redoes_only_what_is_missing_and_ends_the_same(phantoms, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for out in (whole, resumed):
        prepare_folder(phantoms / "raw/test", out, Settings(64, True), 1)
    victim, *others = sorted(resumed.glob("*.png"))
    victim.unlink()
    kept = {path: path.stat().st_mtime_ns for path in others}
    prepare_folder(phantoms / "raw/test", resumed, Settings(64, True), 1, resume=True)
    assert {path: path.stat().st_mtime_ns for path in others} == kept
    for path in whole.iterdir():
        assert (resumed / path.name).read_bytes() == path.read_bytes(), path.name


def test_resume_refuses_other_settings(phantoms, tmp_path):
    prepare_folder(phantoms / "raw/test", tmp_path, Settings(64, True), 1)
    with pytest.raises(InputError, match="made with"):
        prepare_folder(phantoms / "raw/test", tmp_path, Settings(32, True), 1, resume=True)


@pytest.mark.parametrize("make, message", [
    (lambda p: p / "nowhere", "no such folder"),
    (lambda p: p, "holds no image"),
])
def test_empty_input(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        prepare_folder(make(tmp_path), tmp_path / "out", Settings(64, True))
