"""A new form of gate is one class in one list: it is then fitted, searched, saved, read and applied."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from conftest import one_line
from metric_cases import noisy_detector

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.data.coco import to_coco
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.postprocessing import gate_fit
from vindr_det.postprocessing.gate import FORMS, Gate, gate_all
from vindr_det.postprocessing.search import tune
from vindr_det.postprocessing.search_space import Search
from vindr_det.structures.detections import Predictions, no_finding
from vindr_det.submission import write_submission
from vindr_det.tables import write_csv


@dataclass(frozen=True)
class Power(Gate):
    """The form under test: class 14 with score (1 - p) ** exponent."""

    exponent: float = 1.0
    form: ClassVar[str] = "power"

    def __post_init__(self):
        if not self.exponent > 0:
            raise InputError(f"gate power: exponent {self.exponent}, expected above 0")

    def apply(self, boxes, output):
        return boxes + no_finding((1 - output.p_abnormal) ** self.exponent)

    @classmethod
    def grid(cls):
        return [cls(exponent) for exponent in (0.5, 1.0, 2.0)]

    @classmethod
    def suggest(cls, trial):
        return cls(trial.suggest_float("exponent", 0.1, 10, log=True))


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(FORMS, Power.form, Power)


@pytest.fixture
def case():
    """Records, predictions and classifier outputs of 90 images."""
    records, predictions, p_abnormal = noisy_detector(np.random.default_rng(0))
    return records, predictions, {image_id: ClassifierOutput(p) for image_id, p in p_abnormal.items()}


def test_it_is_fitted_saved_read_and_applied(registered, case, tmp_path):
    records, predictions, outputs = case
    folds = {record.image_id: number % 3 for number, record in enumerate(records)}
    fitted = gate_fit.fit(predictions, records, outputs, folds, num_replicates=20)
    score = fitted.forms["power"]
    assert score.gate in Power.grid() and "power exponent" in " ".join(fitted.text().split())
    saved = gate_fit.Fitted(score.gate, fitted.forms, fitted.auc, fitted.ids)
    gate_fit.save(tmp_path / "gate.json", saved, {})
    gate = gate_fit.read(tmp_path / "gate.json").gate
    assert gate == score.gate
    gated = gate_all(gate, {"a": Predictions()}, {"a": ClassifierOutput(0.2)})
    assert gated["a"].scores == pytest.approx([0.8 ** gate.exponent])


def test_it_is_searched(registered, case, tmp_path):
    pytest.importorskip("optuna")
    records, predictions, outputs = case
    write_json(tmp_path / "g.json", to_coco(records))
    write_submission(tmp_path / "d.csv", predictions)
    p_abnormal = [(image_id, output.p_abnormal) for image_id, output in outputs.items()]
    write_csv(tmp_path / "p.csv", pd.DataFrame(p_abnormal, columns=["image_id", "p_abnormal"]))
    search = Search((str(tmp_path / "d.csv"),), str(tmp_path / "g.json"),
                    probabilities=str(tmp_path / "p.csv"))
    trials = tune(search, tmp_path / "t.json", 40, workers=1, num_replicates=20).trials
    assert trials.loc[trials["params_gate"] == "power", "params_exponent"].between(0.1, 10).any()


def test_its_parameters_are_checked_when_a_file_is_read(registered, tmp_path):
    write_json(tmp_path / "gate.json", {"gate": {"form": "power", "exponent": -1}})
    with pytest.raises(InputError, match="expected above 0"):
        gate_fit.read(tmp_path / "gate.json")


def test_without_the_list_its_file_is_one_line(tmp_path, tool):
    write_json(tmp_path / "gate.json", {"gate": {"form": "power", "exponent": 2.0}})
    line = one_line(tool("gate.py", "apply", "--predictions", "s.csv", "--probabilities", "p.csv", "--gate",
                         tmp_path / "gate.json", "--out", tmp_path / "o.csv"))
    assert "gate form 'power', expected one of none, append, hard, scale, rescore" in line
