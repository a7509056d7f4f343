"""The search: its space, its resume, and the honest word about what it found."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import one_line
from metric_cases import noisy_detector

from vindr_det.coco import to_coco
from vindr_det.errors import InputError
from vindr_det.files import write_csv, write_json
from vindr_det.fusion import Fusion
from vindr_det.submission import read_submission, write_submission
from vindr_det.tuning import Search, defaults, read_inputs, read_tuned, tune

pytest.importorskip("optuna")


@pytest.fixture
def folder(tmp_path):
    """Two detectors and a classifier on 90 images."""
    records, first, p_abnormal = noisy_detector(np.random.default_rng(0))
    _, second, _ = noisy_detector(np.random.default_rng(1))
    write_json(tmp_path / "g.json", to_coco(records))
    write_submission(tmp_path / "a.csv", first)
    write_submission(tmp_path / "b.csv", second)
    write_csv(tmp_path / "p.csv", pd.DataFrame(p_abnormal.items(), columns=["image_id", "p_abnormal"]))
    return tmp_path


def test_a_search_finds_that_doubled_boxes_cost(folder):
    """Every finding is boxed twice: NMS must help, on images that it was not chosen on."""
    found = tune(Search((str(folder / "a.csv"),), str(folder / "g.json")), folder / "t.json", 24, workers=1)
    assert found.gain.value > 0.01 and found.tuned > found.default
    assert "improves on the defaults" in found.text() if found.gain.low > 0 else "not told" in found.text()
    saved = json.loads((folder / "t.json").read_text())
    assert saved["held_out"]["tuned"] == found.tuned and len(saved["images"]) == 90
    assert isinstance(read_tuned(folder / "t.json"), Fusion)
    assert len(pd.read_csv(folder / "t.trials.csv")) == 24


def test_a_search_goes_on_where_it_stopped(folder, tool):
    files = ["--predictions", folder / "a.csv", folder / "b.csv", "--annotations", folder / "g.json", "--oof",
             folder / "p.csv", "--out", folder / "t.json", "--workers", 2]
    first = tool("tune.py", *files, "--trials", 6)
    assert first.returncode == 0, first.stderr
    before = pd.read_csv(folder / "t.trials.csv")
    again = tool("tune.py", *files, "--trials", 14)
    assert again.returncode == 0, again.stderr
    after = pd.read_csv(folder / "t.trials.csv")
    assert len(before) == 6 and len(after) == 14 and after["value"][:6].tolist() == before["value"].tolist()
    assert after["params_iou_thr"].nunique() == 14  # no point twice
    unchanged = (folder / "t.trials.csv").read_text()
    assert tool("tune.py", *files, "--trials", 14).returncode == 0
    assert (folder / "t.trials.csv").read_text() == unchanged
    # Other contents are another search.
    write_submission(folder / "b.csv", read_submission(folder / "a.csv"))
    assert tool("tune.py", *files, "--trials", 2).returncode == 0
    assert len(pd.read_csv(folder / "t.trials.csv")) == 2


def test_the_halves_share_no_image_and_the_search_sees_one(folder, monkeypatch):
    from vindr_det import tuning

    search = Search((str(folder / "a.csv"),), str(folder / "g.json"), seed=3)
    one, other = ({record.image_id for record in half} for half in read_inputs(search).halves)
    assert not one & other and len(one | other) == 90 and abs(len(one) - len(other)) <= 3
    asked, real = set(), tuning.Inputs.score
    monkeypatch.setattr(tuning.Inputs, "score",
                        lambda self, settings, half: asked.add(half) or real(self, settings, half))
    tune(search, folder / "t.json", 3, workers=1)
    assert asked == {0}


def test_what_was_tuned_fuses_and_gates(folder, tool):
    search = Search((str(folder / "a.csv"), str(folder / "b.csv")), str(folder / "g.json"),
                    oof=str(folder / "p.csv"))
    assert defaults(search).gate.form == "append"
    tune(search, folder / "t.json", 8, workers=1)
    meta = folder / "meta.csv"
    ids = list(read_submission(folder / "a.csv"))
    write_csv(meta, pd.DataFrame({"image_id": ids, "dim0": 200, "dim1": 200}))
    run = tool("fuse.py", "--inputs", folder / "a.csv", folder / "b.csv", "--meta", meta, "--tuned",
               folder / "t.json", "--out", folder / "f.csv")
    assert run.returncode == 0, run.stderr
    gate = ["apply", "--submission", folder / "f.csv", "--probabilities", folder / "p.csv", "--gate",
            folder / "t.json", "--out", folder / "o.csv"]
    assert "was fitted on 90 of these 90" in one_line(tool("gate.py", *gate))
    assert tool("gate.py", *gate, "--allow-in-sample").returncode == 0
    plain = ["--inputs", folder / "a.csv", folder / "b.csv", "--meta", meta, "--out", folder / "g.csv"]
    assert "90 images" in tool("fuse.py", *plain, "--weights", 2, 1, "--method", "nmw").stdout
    assert "3 weights for 2 models" in one_line(tool("fuse.py", *plain, "--weights", 1, 2, 3))
    assert "iou_thr 4.0" in one_line(tool("fuse.py", *plain, "--iou-thr", 4))


def test_bad_input_is_told(folder, tool):
    base = ["--predictions", folder / "a.csv", "--out", folder / "t.json"]
    (folder / "t.csv").write_text("image_id\n")
    assert "expected --meta too" in one_line(tool("tune.py", *base, "--annotations", folder / "t.csv"))
    assert "--trials 0" in one_line(tool("tune.py", *base, "--annotations", folder / "g.json", "--trials", 0))
    (folder / "x.json").write_text("[]")
    with pytest.raises(InputError, match=r"x.json: not a file of tools/tune.py"):
        read_tuned(folder / "x.json")
    turned = pd.read_csv(folder / "p.csv")
    write_csv(folder / "turned.csv", turned.assign(p_abnormal=1 - turned["p_abnormal"]))
    write_csv(folder / "few.csv", turned.head(60))
    with pytest.raises(InputError, match=r"few.csv: no probability for image i060 \(30 in all\)"):
        read_inputs(Search((str(folder / "a.csv"),), str(folder / "g.json"), oof=str(folder / "few.csv")))
    with pytest.raises(InputError, match="sign is swapped"):
        read_inputs(Search((str(folder / "a.csv"),), str(folder / "g.json"), oof=str(folder / "turned.csv")))
