"""Learning-rate schedules by name, and when something periodic is due.

A schedule takes :class:`ScheduleOptions` and returns one of fvcore's parameter schedulers, which Detectron2
uses too: the factor of the base learning rate over the training's progress, from 0 to below 1. To add a
schedule, write such a function and give it a name in :data:`SCHEDULES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    ExponentialParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

#: Below 1, where fvcore's schedulers end.
_LAST = 1 - 1e-9


@dataclass(frozen=True)
class ScheduleOptions:
    """What schedules are made of; each uses what it needs. A step is one step of the optimizer.

    Attributes:
        total: steps of the whole training.
        warmup: steps over which the rate rises linearly.
        warmup_factor: what the warm-up starts from, as a factor of the rate that follows it.
        milestones: steps at which ``WarmupMultiStepLR`` multiplies the rate by ``gamma``.
        gamma: factor at each milestone; of ``hold``, per step after the hold.
        end: factor that a cosine ends at, and that ``hold`` decays to.
        hold: steps that ``hold`` stays at the base rate after the warm-up.
    """

    total: int
    warmup: int = 0
    warmup_factor: float = 0.001
    milestones: Sequence[int] = ()
    gamma: float = 0.1
    end: float = 0.0
    hold: int = 0

    @classmethod
    def from_config(cls, cfg: Any) -> "ScheduleOptions":
        """Those of a detector's config, whose keys are Detectron2's."""
        solver = cfg.SOLVER
        return cls(total=solver.MAX_ITER, warmup=solver.WARMUP_ITERS, warmup_factor=solver.WARMUP_FACTOR,
                   milestones=solver.STEPS, gamma=solver.GAMMA, end=solver.BASE_LR_END / solver.BASE_LR)


def multi_step(options: ScheduleOptions) -> ParamScheduler:
    """Detectron2's: multiplied by ``gamma`` at each milestone."""
    milestones = [step for step in options.milestones if step <= options.total]
    values = [options.gamma**k for k in range(len(milestones) + 1)]
    return _warmed_up(options, MultiStepParamScheduler(
        values=values, milestones=milestones, num_updates=options.total))


def cosine(options: ScheduleOptions) -> ParamScheduler:
    """Detectron2's: half a cosine over the whole training, of which the warm-up replaces the beginning."""
    return _warmed_up(options, CosineParamScheduler(1, options.end))


def cosine_after_warmup(options: ScheduleOptions) -> ParamScheduler:
    """Half a cosine that begins where the warm-up ends."""
    return _in_turn(options.total, [(options.warmup, LinearParamScheduler(options.warmup_factor, 1)),
                                    (options.total, CosineParamScheduler(1, options.end))])


def hold_then_decay(options: ScheduleOptions) -> ParamScheduler:
    """Warm-up, the base rate for ``hold`` steps, then what is above ``end`` times ``gamma`` per step."""
    held = options.warmup + options.hold
    decay = _Above(options.end, ExponentialParamScheduler(1, options.gamma ** max(options.total - held, 0)))
    return _in_turn(options.total, [(options.warmup, LinearParamScheduler(options.warmup_factor, 1)),
                                    (held, ConstantParamScheduler(1)),
                                    (options.total, decay)])


def constant(options: ScheduleOptions) -> ParamScheduler:
    """Warm-up, then the base rate."""
    return _in_turn(options.total, [(options.warmup, LinearParamScheduler(options.warmup_factor, 1)),
                                    (options.total, ConstantParamScheduler(1))])


class _Above(ParamScheduler):
    """From 1 to ``end`` where ``schedule`` goes from 1 to 0."""

    def __init__(self, end: float, schedule: ParamScheduler) -> None:
        self.end, self.schedule = end, schedule

    def __call__(self, where: float) -> float:
        return self.end + (1 - self.end) * self.schedule(where)


#: Name in a config -> schedule. The first two are Detectron2's names.
SCHEDULES: dict[str, Callable[[ScheduleOptions], ParamScheduler]] = {
    "WarmupMultiStepLR": multi_step,
    "WarmupCosineLR": cosine,
    "cosine": cosine_after_warmup,
    "hold": hold_then_decay,
    "constant": constant,
}


def factor_of_step(name: str, options: ScheduleOptions) -> Callable[[int], float]:
    """The factor of the base learning rate at a step, from 0.

    Raises:
        KeyError: a name that :data:`SCHEDULES` does not have; configs refuse it when they are read.
    """
    schedule = SCHEDULES[name](options)
    return lambda step: schedule(min(step / options.total, _LAST))


def build_lr_scheduler(optimizer: "Optimizer", name: str, options: ScheduleOptions) -> "LambdaLR":
    """A schedule of :data:`SCHEDULES` for all parameter groups of an optimizer; step it after each step."""
    from torch.optim.lr_scheduler import LambdaLR

    return LambdaLR(optimizer, factor_of_step(name, options))


def is_due(done: int, period: int, total: int | None = None) -> bool:
    """Whether something periodic, such as a validation or a checkpoint, comes after an iteration.

    Args:
        done: iterations that are finished.
        period: iterations from one time to the next; 0 or less for none but the last.
        total: after so many iterations it is due in any case; None for no such end.
    """
    return done == total or (period > 0 and done % period == 0)


def _warmed_up(options: ScheduleOptions, main: ParamScheduler) -> ParamScheduler:
    """Rise to what ``main`` has where the warm-up ends, then follow ``main``, as Detectron2 does."""
    share = min(options.warmup / options.total, 1.0)
    if share <= 0:
        return main
    target = main(min(share, _LAST))
    warmup = (LinearParamScheduler(options.warmup_factor * main(0.0), target) if options.warmup_factor < 1
              else ConstantParamScheduler(target))
    if share >= 1:
        return warmup
    return CompositeParamScheduler([warmup, main], interval_scaling=["rescaled", "fixed"],
                                   lengths=[share, 1 - share])


def _in_turn(total: int, parts: Sequence[tuple[int, ParamScheduler]]) -> ParamScheduler:
    """One schedule after the other, each up to its step; those without a step before the end are left out."""
    lengths, schedules, begin = [], [], 0
    for end, schedule in parts:
        end = min(end, total)
        if end > begin:
            lengths.append((end - begin) / total)
            schedules.append(schedule)
            begin = end
    return CompositeParamScheduler(schedules, lengths, ["rescaled"] * len(schedules))
