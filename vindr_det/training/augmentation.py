"""Augmentation from YAML, by Albumentations; the only module that imports it.

A list such as ``[{name: HorizontalFlip, p: 0.5}, {name: Affine, scale: [0.9, 1.1]}]`` names
Albumentations' classes and their arguments. Boxes are transformed with the image, clipped to it, and
dropped where too little of their area is left.
"""

import difflib
import inspect
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError


class Augment:
    """Apply a list of named transforms to gray images and their boxes.

    Args:
        transforms: one mapping per transform: ``name`` and the arguments of Albumentations' class.
        min_visibility: boxes with a smaller share of their area left are dropped.
        seed: seed of the random numbers; None draws one.
        key: the config's key that holds ``transforms``, named in errors.

    Raises:
        InputError: an unknown name (with the nearest match) or argument.
    """

    def __init__(
        self, transforms: Sequence[Mapping[str, Any]], min_visibility: float = 0.3,
        seed: int | None = None, key: str = "VINDR.AUGMENT",
    ) -> None:
        import albumentations as A

        self._empty = not transforms
        boxes = A.BboxParams(
            format="pascal_voc", label_fields=["labels", "index"], clip=True,
            filter_invalid_bboxes=True, min_visibility=min_visibility, min_area=1.0,
        )
        with warnings.catch_warnings():
            # Lists of transforms that leave boxes where they are, such as brightness, are fine.
            warnings.filterwarnings("ignore", "Got processor for bboxes")
            self._compose = A.Compose([_build(A, spec, key) for spec in transforms], bbox_params=boxes)
        self.reseed(seed)

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Transform one sample.

        Args:
            image: (H, W) uint8.
            boxes: (N, 4) xyxy in the image's pixels.
            labels: (N,) class ids.

        Returns:
            image (H', W'), boxes (M, 4), labels (M,), and the indices (M,) of the remaining boxes
            among the N given.
        """
        if self._empty:
            return image, boxes, labels, np.arange(len(boxes))
        result = self._compose(
            # Transforms written for color refuse two dimensions.
            image=image[..., None], bboxes=boxes, labels=labels, index=np.arange(len(boxes)),
        )
        left = np.asarray(result["bboxes"], dtype=np.float64).reshape(-1, 4)
        return (
            np.ascontiguousarray(result["image"][..., 0]), left,
            np.asarray(result["labels"], dtype=np.int64).reshape(-1),
            np.asarray(result["index"], dtype=np.int64).reshape(-1),
        )

    def reseed(self, seed: int | None) -> None:
        """Seed the random numbers, which data loader workers must not share.

        One stream for all transforms: Albumentations' own ``set_random_seed`` gives each a stream of the
        same seed, so that all of them are applied to an image or none.
        """
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))


def _build(albumentations: Any, spec: Mapping[str, Any], key: str) -> Any:
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise InputError(f"{key}: {spec!r}, expected a mapping with a name")
    name = spec["name"]
    known = _names(albumentations)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{key}: Albumentations has no transform {name!r}{hint}")
    transform = getattr(albumentations, name)
    arguments = {argument: _tuples(value) for argument, value in spec.items() if argument != "name"}
    accepted = set(inspect.signature(transform).parameters)
    unknown = sorted(set(arguments) - accepted)
    if unknown:  # Albumentations itself would only warn
        raise InputError(f"{key}: {name} has no argument {unknown[0]!r}, expected some of "
                         f"{', '.join(sorted(accepted))}")
    try:
        return transform(**arguments)
    except (ValueError, TypeError) as error:
        raise InputError(f"{key}: {name}: {' '.join(str(error).split())}") from error


def _names(albumentations: Any) -> list[str]:
    base = albumentations.BasicTransform
    return sorted(
        name for name, value in vars(albumentations).items()
        if inspect.isclass(value) and issubclass(value, base) and not name.startswith("Base")
    )


def _tuples(value: Any) -> Any:
    """YAML and LazyConfig have lists where Albumentations expects tuples."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return value
