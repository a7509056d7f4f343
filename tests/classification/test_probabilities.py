"""Files of probabilities by any classifier; reading and checking them is tested in test_gate.py too."""

import numpy as np
import pytest

from vindr_det.classification.probabilities import ProbabilityColumn, read_classifier_outputs
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import FINDINGS, NIH_BOXES, column_of


@pytest.mark.parametrize("key", ["meaning", "says"])
def test_columns_stored_by_this_and_earlier_versions(key):
    column = ProbabilityColumn.from_json({"column": "net", key: "p_no_finding"})
    assert column == ProbabilityColumn("net", "p_no_finding")
    assert column._asdict() == {"column": "net", "meaning": "p_no_finding"}


def test_findings_are_read_where_all_are_there(tmp_path):
    names = [column_of(name) for name in FINDINGS]
    path = tmp_path / "p.csv"
    path.write_text(f"image_id,p_no_finding,{','.join(names)}\na,0.25{',0.5' * 14}\n")
    output = read_classifier_outputs(path)["a"]
    assert output.p_abnormal == 0.75 and np.array_equal(output.findings, np.full(14, 0.5))
    path.write_text(f"image_id,p_no_finding,{','.join(names[1:])}\na,0.25{',0.5' * 13}\n")
    assert read_classifier_outputs(path)["a"].findings is None
    path.write_text(f"image_id,p_no_finding,{','.join(names)}\na,0.25,2{',0.5' * 13}\n")
    with pytest.raises(InputError, match="row 2: findings of image a are"):
        read_classifier_outputs(path)


def test_findings_of_another_label_set(tmp_path):
    names = [column_of(name) for name in NIH_BOXES.findings]
    path = tmp_path / "p.csv"
    path.write_text(f"image_id,p_abnormal,{','.join(names)}\na,0.25,{','.join(f'0.{i}' for i in range(8))}\n")
    output = read_classifier_outputs(path, label_set=NIH_BOXES)["a"]
    assert output.findings == pytest.approx(np.arange(8) / 10) and output.label_set is NIH_BOXES
    assert read_classifier_outputs(path)["a"].findings is None
