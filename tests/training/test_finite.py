"""Losses that are not finite, and how their values reach the CPU."""

import pytest
import torch

from vindr_det.exceptions import DivergedError
from vindr_det.training.finite import FiniteCheck, Losses, sent

NAN = float("nan")


class Arrival:
    """An event of a GPU: a copy that has not arrived must not be read."""

    def __init__(self, losses):
        self.losses, self.waited = losses, 0

    def synchronize(self):
        self.waited += 1


def late(**values):
    """Losses as a GPU sends them."""
    losses = sent({key: torch.tensor(value) for key, value in values.items()})
    return Losses(losses.names, losses.values, Arrival(losses))


def test_losses_keep_their_names_and_values():
    values = {"a": torch.tensor(0.25, requires_grad=True), "b": torch.tensor(2.0, dtype=torch.bfloat16)}
    assert sent(values).read() == {"a": 0.25, "b": 2.0}


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
def test_on_the_cpu_a_loss_ends_its_own_step(value):
    check = FiniteCheck()
    check.add(0, ["a"], sent({"loss": torch.tensor(1.0)}))
    with pytest.raises(DivergedError, match=r"iteration 1 on images b \(loss "):
        check.add(1, ["b"], sent({"loss": torch.tensor(value), "other": torch.tensor(1.0)}))


def test_a_gpus_losses_are_waited_for_in_the_next_step_or_before_weights_are_saved():
    check, first = FiniteCheck(), late(loss=1.0)
    check.add(0, ["a"], first)
    assert first.arrived.waited == 0
    second = late(loss=NAN)
    check.add(1, ["b"], second)
    assert first.arrived.waited == 1 and second.arrived.waited == 0
    with pytest.raises(DivergedError, match="iteration 1 on images b"):
        check.settle()
    check.settle()  # once
    check.add(2, ["c"], second)
    with pytest.raises(DivergedError, match="iteration 2 on images c"):
        check.add(3, ["d"], first)
