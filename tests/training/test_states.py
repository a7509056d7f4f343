"""The files of a training that a resume reads."""

import json

import pytest

from vindr_det.training import states


def test_keeping_the_latest(tmp_path):
    for done in (10, 20, 30, 90):
        (tmp_path / f"{states.name_of(done)}.pth").touch()
    (tmp_path / "state_0000005.ckpt").touch()
    assert [states.iterations_of(path) for path in states.saved(tmp_path, ".pth")] == [10, 20, 30, 90]
    states.keep_latest(tmp_path, ".pth", done=30, keep=2)
    assert [states.iterations_of(path) for path in states.saved(tmp_path, ".pth")] == [20, 30]
    assert (tmp_path / "state_0000005.ckpt").exists()


@pytest.mark.parametrize("done, left", [(0, 0), (20, 1), (40, 2), (99, 2)])
def test_what_a_resume_writes_again_is_cut_off(tmp_path, done, left):
    path = tmp_path / "metrics.json"
    lines = [json.dumps({"iteration": i, "name": "ü"}) + "\n" for i in (19, 39)]
    path.write_text("".join(lines) + '{"iteration": 59, "na', encoding="utf-8")
    with path.open("a", encoding="utf-8") as already_open:
        states.truncate_metrics(path, done)
        already_open.write("end\n")
    assert path.read_text(encoding="utf-8") == "".join(lines[:left]) + "end\n"
