"""The best validation, and when to stop waiting for a better one."""

from vindr_det.training.early_stopping import EarlyStopping


def test_best_and_patience():
    best = EarlyStopping("m", patience=2)
    assert [best.update({"m": v}) for v in (0.3, 0.2, float("nan"))] == [True, False, False]
    assert best.exhausted and best.value == 0.3
    again = EarlyStopping("m", patience=2)
    again.load_state_dict(best.state_dict())
    assert again.exhausted and not again.update({"m": 0.3})
    assert again.update({"m": 0.31}) and not again.exhausted
    assert not EarlyStopping("m").update({}) and not EarlyStopping("m").exhausted


def test_a_metric_that_is_never_measured_is_warned_of_once(caplog):
    best = EarlyStopping("vindr/AP40/Pneumothorax")
    for _ in range(2):
        assert not best.update({"vindr/mAP40": 0.5})
    assert caplog.text.count("vindr/AP40/Pneumothorax was not measured") == 1
    assert "VINDR" not in caplog.text and "model_best" not in caplog.text  # the classifier has neither


def test_both_engines_report_the_best_and_the_stop_in_the_same_words(caplog):
    caplog.set_level("INFO")
    best = EarlyStopping("vindr/mAP40", patience=1)
    best.update({"vindr/mAP40": 0.25})
    best.log_best(200)
    best.update({})
    best.log_stop(400)
    assert "best model so far: vindr/mAP40 0.2500 at iteration 200" in caplog.text
    assert "stopping at iteration 400: no better vindr/mAP40 in 1 validations" in caplog.text
