"""The files of a training that a resume reads."""

import json

import pytest
import torch

from vindr_det.exceptions import InputError
from vindr_det.training import states
from vindr_det.training.resume import state_to_resume


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


@pytest.mark.parametrize("files, engine, outcome", [
    ({}, "torchvision", None),
    ({"state_0000003.ckpt": ""}, "torchvision", "state_0000003.ckpt"),
    ({"state_0000003.ckpt": "", "state_0000010.ckpt": ""}, "torchvision", "state_0000010.ckpt"),
    ({"state_0000003.ckpt": "", "state_0000010.pth": ""}, "torchvision", "state_0000003.ckpt"),
    ({"state_0000003.ckpt": "", "state_0000010.pth": ""}, "detectron2", "state_0000010.pth"),
    ({"state_0000003.pth": ""}, "torchvision", "training of the detectron2 engine"),
    ({"state_0000003.ckpt": "", "config.yaml": "VINDR: {ENGINE: torchvision}"}, "detectron2",
     "training of the torchvision engine"),
    ({"state_0000003.pth": "", "config.yaml": "VINDR: {ENGINE: torchvision}"}, "detectron2",
     "training of the torchvision engine"),
    ({"config.yaml": "VINDR: {ENGINE: torchvision}", "metrics.json": ""}, "torchvision", None),
    ({"model_best.pth": ""}, "detectron2", "holds model_best.pth but no state"),
    ({"state_0000003.pth": "", "state_0000004_backup.pth": "x"}, "detectron2", "state_0000003.pth"),
    ({"state_9999999.ckpt": "", "state_10000000.ckpt": ""}, "torchvision", "state_10000000.ckpt"),
    ({"state_0000003.ckpt": "", "state_0000004.ckpt": "cut off"}, "torchvision", "state_0000003.ckpt"),
    ({"state_0000003.pth": "cut", "state_0000004.pth": "cut"}, "detectron2", "not a checkpoint of tensors"),
])
def test_which_state_a_resume_takes(tmp_path, files, engine, outcome):
    for name, text in files.items():
        if name.startswith("state_") and not text:
            torch.save({"vindr": {}, "trainer": {}}, tmp_path / name)
        else:
            (tmp_path / name).write_text(text)
    if outcome is None or outcome.startswith("state_"):
        assert state_to_resume(tmp_path, engine) == (tmp_path / outcome if outcome else None)
    else:
        with pytest.raises(InputError, match=outcome):
            state_to_resume(tmp_path, engine)
