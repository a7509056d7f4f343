"""Rules that make a detector's config of a data set's fingerprint, each with its reason.

A rule decides what the data decide: the size of the images, anchors, sampling and the length of the training.
Everything else is the recipe's, a config that the planned one is based on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from vindr_det.data.fingerprint import IMAGE_SIZES, MIN_IMAGES, TINY_SIDE, Fingerprint, ImageFiles
from vindr_det.detection.anchors import Anchors, choose
from vindr_det.exceptions import InputError

#: At most this share of the boxes may be tiny.
MAX_TINY = 0.05
#: Normal images per abnormal image, as in configs/Base-RCNN-FPN.yaml.
NORMAL_RATIO = 0.25
#: Findings on a smaller share of an epoch's images come more often, up to four times.
RARE, MOST_REPEATS = 0.01, 4
#: Epochs from pretrained and from random weights: Detectron2's 3x schedule, and He et al.'s 6x ("Rethinking
#: ImageNet Pre-training", 2019).
EPOCHS, EPOCHS_FROM_RANDOM = 36, 72
#: Iterations without a budget are at least so many; a budget for fewer epochs (Detectron2's 1x) makes the
#: images smaller.
MIN_ITERATIONS, MIN_EPOCHS = 1000, 12
#: Share of a budget for training steps; starting, reading images and validation take the rest.
STEPS_SHARE = 0.7
#: ResNet's depth and the pyramid's channels -> seconds per image and per million of its pixels, on a core
#: (benchmarks/step_times.py).
SECONDS: Mapping[tuple[int, int], tuple[float, float]] = {(18, 64): (0.0, 2.6), (50, 256): (0.76, 11.0)}


@dataclass(frozen=True)
class Setting:
    """A key of a config, its value, and the reason with the number that it comes from.

    An empty reason is that of the setting before.
    """

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Budget:
    """What a training may cost: minutes on so many cores of a CPU."""

    minutes: float
    cores: int

    @property
    def seconds(self) -> float:
        """A core's seconds for training steps."""
        return 60 * self.minutes * self.cores * STEPS_SHARE

    def __str__(self) -> str:
        return f"{self.minutes:g} minutes on {self.cores} core{'s' * (self.cores > 1)}"


@dataclass(frozen=True)
class Recipe:
    """What the rules take from the config that the planned one is based on.

    Attributes:
        anchors: of each pyramid level, in pixels; empty for an architecture without.
        batch: images per iteration.
        warmup: iterations.
        from_random: whether it starts from random weights.
        steps: whether its learning rate falls at SOLVER.STEPS.
        cost: seconds per image and per million of its pixels on a core; None where they are not known.
        finest_stride: of the first pyramid level, in pixels; the next ones' are twice as large each.
    """

    anchors: tuple[Anchors, ...]
    batch: int
    warmup: int
    from_random: bool
    steps: bool
    cost: tuple[float, float] | None
    finest_stride: int = 4

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> "Recipe":
        """The recipe of a config, or of the keys that a YAML file sets, over Detectron2's defaults."""
        model, solver = node.get("MODEL", {}), node.get("SOLVER", {})
        architecture = model.get("META_ARCHITECTURE", "GeneralizedRCNN")
        network = (model.get("RESNETS", {}).get("DEPTH", 50), model.get("FPN", {}).get("OUT_CHANNELS", 256))
        known = architecture == "GeneralizedRCNN" and "timm" not in model.get("BACKBONE", {}).get("NAME", "")
        return cls(() if architecture == "FCOS" else _anchors_of(model.get("ANCHOR_GENERATOR", {})),
                   solver.get("IMS_PER_BATCH", 16), solver.get("WARMUP_ITERS", 1000),
                   not model.get("WEIGHTS"),
                   solver.get("LR_SCHEDULER_NAME", "WarmupMultiStepLR") == "WarmupMultiStepLR",
                   SECONDS.get(network) if known else None, 8 if architecture == "RetinaNet" else 4)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each pyramid level, in pixels."""
        return tuple(self.finest_stride * 2**level for level in range(len(self.anchors)))


def _anchors_of(node: Mapping[str, Any]) -> tuple[Anchors, ...]:
    sizes = node.get("SIZES", [[32], [64], [128], [256], [512]])
    ratios = node.get("ASPECT_RATIOS", [[0.5, 1.0, 2.0]])
    ratios = [*ratios] * (len(sizes) if len(ratios) == 1 else 1)
    return tuple(Anchors(tuple(map(float, level)), tuple(map(float, of))) for level, of in
                 zip(sizes, ratios, strict=True))


def plan(
    fingerprint: Fingerprint, recipe: Recipe, budget: Budget | None = None, files: ImageFiles | None = None,
    validation: int = 0,
) -> list[Setting]:
    """The keys that the data decide.

    Args:
        fingerprint: of the training images.
        recipe: of the config that the planned one is based on.
        budget: of the training; None for none.
        files: what is known of the files; None takes the originals.
        validation: number of validation images.

    Raises:
        InputError: no box, or a budget that is too small or for a network whose cost is not known.
    """
    if not len(fingerprint.labels):
        raise InputError("the annotations hold no box, expected some to plan a training for")
    keep_aspect = _keep_aspect(fingerprint, files)
    normal = _normal_ratio(fingerprint)
    in_epoch = images_per_epoch(fingerprint, normal.value)
    size = _size(fingerprint, recipe, budget, files, keep_aspect.value, in_epoch)
    return [*_sizes(size), keep_aspect, *_anchors(fingerprint, recipe, size.value, keep_aspect.value), normal,
            _repeats(fingerprint, in_epoch),
            *_schedule(fingerprint, recipe, budget, size.value, keep_aspect.value, in_epoch, validation)]


def images_per_epoch(fingerprint: Fingerprint, normal_ratio: float) -> int:
    """Images of an epoch: all that are not normal, and so many normal ones per each of them."""
    normal = int(fingerprint.normal.sum())
    others = len(fingerprint.normal) - normal
    return others + (normal if normal_ratio < 0 else min(normal, round(normal_ratio * others)))


def notes(fingerprint: Fingerprint) -> Iterator[str]:
    """What the data lack, a line each: boxes of some findings, complete annotations, a consensus."""
    few = ", ".join(f"{name} ({count})" for name, count in fingerprint.too_few().items())
    if few:
        yield (f"on fewer than {MIN_IMAGES} images: {few}. Their AP says next to nothing: half the findings "
               "of 10 are .19 to .81")
    unknown = int(fingerprint.unknown.any(axis=1).sum())
    if unknown:
        yield (f"on {unknown} of {len(fingerprint.shapes)} images a finding may be without a box: no "
               "negatives for it there in training, and no score")
    if fingerprint.overlapping > MAX_TINY * max(len(fingerprint.labels), 1):
        yield (f"{fingerprint.overlapping} of {len(fingerprint.labels)} boxes repeat another of their class "
               "on their image (IoU > .4): perhaps several readers' boxes that are not fused yet")


def _keep_aspect(fingerprint: Fingerprint, files: ImageFiles | None) -> Setting:
    key = "VINDR.KEEP_ASPECT"
    if files is not None and files.distorted:
        return Setting(key, False, "the files have other ratios of their sides than the originals: resized "
                       "to squares by others")
    low, high = np.quantile(fingerprint.shapes[:, 0] / fingerprint.shapes[:, 1], [0.05, 0.95])
    return Setting(key, True, "no finding is distorted; height / width of the images is "
                   f"{low:.2f} to {high:.2f} (5 to 95 %)")


def _normal_ratio(fingerprint: Fingerprint) -> Setting:
    key, normal = "VINDR.NORMAL_RATIO", int(fingerprint.normal.sum())
    others = len(fingerprint.normal) - normal
    if not normal:
        return Setting(key, -1.0, "there is no normal image: nothing shows what a normal one looks like, so "
                       "expect false positives on these")
    text = f"{normal} normal and {others} other images"
    if normal <= NORMAL_RATIO * others:
        return Setting(key, -1.0, f"{text}: all, since they are at most one to four others")
    return Setting(key, NORMAL_RATIO, f"{text}: one normal to four others, other ones in each epoch; all "
                   f"would be {normal / others:.2f} to one")


def _largest(fingerprint: Fingerprint, files: ImageFiles | None) -> tuple[int, str]:
    """The longest side beyond which images would only be enlarged, and whose it is."""
    if files is not None:
        return files.longest, "files'"
    return int(np.median(fingerprint.shapes.max(axis=1))), "images'"


def _size(
    fingerprint: Fingerprint, recipe: Recipe, budget: Budget | None, files: ImageFiles | None,
    keep_aspect: bool, in_epoch: int,
) -> Setting:
    """The smallest size at which few boxes are tiny, or what the budget and the files allow."""
    largest, whose = _largest(fingerprint, files)
    sizes = [size for size in IMAGE_SIZES if size <= largest] or [IMAGE_SIZES[0]]
    tiny = {size: fingerprint.tiny_at(size, keep_aspect) for size in sizes}
    size = next((size for size in sizes if tiny[size] <= MAX_TINY), sizes[-1])
    under = f"of the {len(fingerprint.labels)} boxes have a shorter side under {TINY_SIDE} px"
    reason = f"{tiny[size]:.1%} {under}"
    if size > largest:
        reason = f"the smallest here, though the {whose} longest side is {largest} px; {reason}"
    elif tiny[size] > MAX_TINY:
        reason += (f", more than {MAX_TINY:.0%}, but the {whose} longest side is {largest} px" if
                   size != IMAGE_SIZES[-1] else f", more than {MAX_TINY:.0%}, but no config here is larger")
    elif size != sizes[0]:
        smaller = sizes[sizes.index(size) - 1]
        reason += (f", at {smaller} {tiny[smaller]:.1%}; wanted is the smallest size with at most "
                   f"{MAX_TINY:.0%}")
    if budget is None:
        return Setting("VINDR.IMAGE_SIZE", size, reason)
    affordable = [smaller for smaller in sizes if smaller <= size and in_epoch * MIN_EPOCHS <= _images_in(
        budget, fingerprint, recipe, smaller, keep_aspect)]
    chosen = max(affordable, default=sizes[0])
    if chosen < size:
        allowed = f"the largest at which {budget} allow" if affordable else (
            f"the smallest, and yet {budget} do not allow")
        reason = (f"{allowed} {MIN_EPOCHS} epochs of {in_epoch} images; {tiny[chosen]:.1%} {under}, at "
                  f"{size} px {tiny[size]:.1%}")
    return Setting("VINDR.IMAGE_SIZE", chosen, reason)


def _seconds_per_image(fingerprint: Fingerprint, recipe: Recipe, size: int, keep_aspect: bool) -> float:
    if recipe.cost is None:
        known = " or ".join(f"ResNet-{depth} with {channels} channels in the pyramid"
                            for depth, channels in SECONDS)
        raise InputError("--budget: the time of the recipe's network is not known, expected Faster R-CNN "
                         f"with {known}")
    shapes = fingerprint.shapes / fingerprint.shapes.max(axis=1, keepdims=True)
    area = shapes.prod(axis=1).mean() if keep_aspect else 1.0
    start, per_pixel = recipe.cost
    return start + per_pixel * area * size**2 / 1e6


def _images_in(
    budget: Budget, fingerprint: Fingerprint, recipe: Recipe, size: int, keep_aspect: bool
) -> float:
    return budget.seconds / _seconds_per_image(fingerprint, recipe, size, keep_aspect)


def _sizes(size: Setting) -> list[Setting]:
    told = "all four are VINDR.IMAGE_SIZE: the network sees images at that size"
    return [size, Setting("INPUT.MIN_SIZE_TRAIN", [size.value], told),
            *(Setting(f"INPUT.{key}", size.value, "")
              for key in ("MAX_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST"))]


def _anchors(fingerprint: Fingerprint, recipe: Recipe, size: int, keep_aspect: bool) -> list[Setting]:
    if not recipe.anchors:
        return []
    levels, told = choose(fingerprint.sides_at(size, keep_aspect), recipe.anchors, recipe.strides)
    ratios = [round(ratio, 2) for ratio in levels[0].ratios]
    sizes = [list(map(round, level.sizes)) for level in levels]
    return [Setting("MODEL.ANCHOR_GENERATOR.SIZES", sizes, told),
            Setting("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [ratios], "height / width")]


def _repeats(fingerprint: Fingerprint, in_epoch: int) -> Setting:
    counts = fingerprint.images_with
    rarest = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
    share = counts[rarest] / in_epoch
    name = fingerprint.label_set.findings[rarest]
    told = f"the rarest finding, {name}, is on {counts[rarest]} of an epoch's {in_epoch} images ({share:.1%})"
    if share >= RARE:
        return Setting("VINDR.REPEAT_THRESHOLD", 0.0, f"{told}: none is on less than {RARE:.0%}")
    threshold = float(f"{min(RARE, MOST_REPEATS**2 * share):.2g}")
    return Setting("VINDR.REPEAT_THRESHOLD", threshold,
                   f"{told}: they come {(threshold / share) ** 0.5:.1f} times as often")


def _schedule(
    fingerprint: Fingerprint, recipe: Recipe, budget: Budget | None, size: int, keep_aspect: bool,
    in_epoch: int, validation: int,
) -> list[Setting]:
    epochs = EPOCHS_FROM_RANDOM if recipe.from_random else EPOCHS
    weights = "random" if recipe.from_random else "pretrained"
    wanted = _rounded(max(MIN_ITERATIONS, ceil(epochs * in_epoch / recipe.batch)))
    told = (f"{wanted * recipe.batch / in_epoch:.0f} epochs of {in_epoch} images (from {weights} weights: "
            f"{epochs})")
    if budget is None:
        return _solver(recipe, wanted, told, validation, 20)
    seconds = _seconds_per_image(fingerprint, recipe, size, keep_aspect)
    affordable = _affordable(budget, recipe, seconds, in_epoch, size)
    if affordable < wanted:
        told = (f"{affordable * recipe.batch / in_epoch:.3g} epochs of {in_epoch} images, all that {budget} "
                f"allow: {STEPS_SHARE:.0%} of them for steps of {seconds:.2f} s per image and core")
    return _solver(recipe, min(affordable, wanted), told, validation, 4)


def _affordable(budget: Budget, recipe: Recipe, seconds: float, in_epoch: int, size: int) -> int:
    """Iterations that a budget allows, at so many seconds per image."""
    images, least = budget.seconds / seconds, max(in_epoch, recipe.batch)
    if images < least:
        raise InputError(f"--budget {budget.minutes:g}: not enough for an epoch of {in_epoch} images at "
                         f"{size} px, expected at least {ceil(budget.minutes * least / images)} minutes on "
                         f"{budget.cores} core{'s' * (budget.cores > 1)}")
    return int(images / recipe.batch)


def _rounded(iterations: int) -> int:
    """To two digits."""
    return int(float(f"{iterations:.1e}"))


def _solver(recipe: Recipe, iterations: int, told: str, validation: int, parts: int) -> list[Setting]:
    period = max(1, iterations // parts)
    settings = [Setting("SOLVER.MAX_ITER", iterations, told),
                Setting("SOLVER.WARMUP_ITERS", min(recipe.warmup, iterations // 10),
                        "the recipe's, at most a tenth of the training")]
    if recipe.steps:
        steps = sorted({part * iterations // 10 for part in (7, 9)} - {0})
        settings.append(Setting("SOLVER.STEPS", steps, "70 and 90 % of the training"))
    told = f"{parts} times in the training"
    settings.append(Setting("SOLVER.CHECKPOINT_PERIOD", period, told))
    if validation:
        settings.append(Setting("TEST.EVAL_PERIOD", period, f"{told}, on {validation} images"))
    return settings
