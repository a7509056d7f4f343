"""A loaded model, which predicts files, folders and arrays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from vindr_det.api.result import Result, require_flag, require_score, require_whole
from vindr_det.device import DEVICES, device_name, is_device, resolve_device
from vindr_det.exceptions import InputError
from vindr_det.files import expanded, require_path
from vindr_det.imaging import image_run
from vindr_det.imaging.image_run import ImageRun
from vindr_det.imaging.read import as_array
from vindr_det.limits import MAX_PIXELS
from vindr_det.postprocessing.agreement import TOO_FEW
from vindr_det.prediction import Models, predict_each

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image as PilImage

#: A file, a folder, an image of Pillow, or (H, W) gray or (H, W, 3) RGB pixels, uint8 or uint16.
Image = Union[str, Path, NDArray[Any], "PilImage"]
#: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, a GPU's number, or one of torch.
Device = Union[str, int, "torch.device"]


@dataclass(frozen=True)
class Source:
    """What a model is built from.

    Attributes:
        name: of the file or folder.
        build: from a device to the models.
        refuse_in_sample: is called with the image ids of a run, and raises where the gate was fitted on them.
    """

    name: str
    build: Callable[[str], Models]
    refuse_in_sample: Callable[[Sequence[str]], None] = lambda ids: None


class Model:
    """Detectors, with or without a classifier and a gate, or a classifier alone.

    Args:
        source: what it is built from.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, or a GPU's number.

    Attributes:
        models: the detectors, the classifier, the fusion and the gate.
        device: where they are.

    Raises:
        InputError: as of :func:`vindr_det.load`.
    """

    def __init__(self, source: Source, device: Device = "auto") -> None:
        self.source, self.device = source, _resolved(device)
        self.models = source.build(self.device)

    @property
    def names(self) -> tuple[str, ...]:
        """The findings by class id; of a classifier alone its columns."""
        predictors, classifier = self.models.predictors, self._classifier
        return predictors[0].label_set.findings if predictors else tuple(classifier.columns)

    @property
    def notice(self) -> str:
        """What the bundle says at every use, such as that it has seen synthetic images alone; or empty."""
        return self.models.notice

    def to(self, device: Device) -> "Model":
        """The model itself, built again where it is on another device; ``auto`` leaves it where it is.

        Raises:
            InputError: no such device.
        """
        wanted = self.device if device_name(device) == "auto" else _resolved(device)
        if wanted != self.device:
            self.models, self.device = self.source.build(wanted), wanted
        return self

    def predict(
        self, images: Image | Sequence[Image], *, score: float = 0.3, device: Device = "auto",
        batch_size: int | None = None, workers: int = 0, recursive: bool = False,
        meta: str | Path | None = None, max_pixels: int = MAX_PIXELS, allow_inverted: bool = False,
        allow_in_sample: bool = False,
    ) -> Any:
        """Predict an image, a folder or a list.

        Args:
            images: a DICOM, PNG or JPEG file; a folder of them; an image of Pillow; (H, W) gray or (H, W, 3)
                RGB pixels, uint8 or uint16; or a list of these.
            score: boxes with a lower score are left out of the results, which keep them for ``Result.at``.
            device: ``auto`` is where the model was loaded.
            batch_size: images per call of a detector; None takes 8 on a GPU and 1 on a CPU.
            workers: processes that read images; a script that asks for some needs the usual
                ``if __name__ == "__main__":``. 0 reads in this one, which a decoder that crashes would end.
            recursive: include subfolders.
            meta: table of the originals' sizes (image_id,dim0,dim1), for files that were made smaller.
            max_pixels: larger images are refused.
            allow_inverted: accept a classifier that contradicts the boxes.
            allow_in_sample: accept images that the gate was fitted on.

        Returns:
            A :class:`vindr_det.Result` for a file or an array, a list of them for a list, and a generator of
            them for a folder, which keeps no image and no result.

        Raises:
            InputError: there is no such file or folder, an array is no image, an option is out of range, the
                gate was fitted on an image, or the classifier's labels are inverted.
        """
        require_score(score)
        require_whole("batch_size", batch_size, 1)
        require_whole("workers", workers, 0)
        require_whole("max_pixels", max_pixels, 1)
        for name, value in (("recursive", recursive), ("allow_inverted", allow_inverted),
                            ("allow_in_sample", allow_in_sample)):
            require_flag(name, value)
        images = [*map(_given, images)] if isinstance(images, list | tuple) else _given(images)
        run = _run(images, recursive, expanded(meta), max_pixels)
        if not allow_in_sample:
            self.source.refuse_in_sample(run.readable)
        self.to(device)
        results = self._results(run, score, batch_size or (1 if self.device == "cpu" else 8), workers,
                                allow_inverted)
        if isinstance(images, list | tuple):
            return list(results)
        if _is_folder(images):
            return results
        (result,) = results
        return result

    __call__ = predict

    def __repr__(self) -> str:
        parts = [f"{count} detector{'s' * (count > 1)}"] if (count := len(self.models.predictors)) else []
        parts += ["classifier"] * bool(self.models.classifier) + [self.notice] * bool(self.notice)
        return f"<Model {self.source.name} on {self.device}: {'; '.join(parts)}>"

    def _results(
        self, run: ImageRun, score: float, batch: int, workers: int, allow_inverted: bool
    ) -> Iterator[Result]:
        if not self.models.predictors:
            yield from self._classified(run, score, batch, workers)
            return
        outcomes = predict_each(run, self.models, batch, workers,
                                allow_inverted or len(run.inputs) <= TOO_FEW)  # where nothing can be told
        for source, (status, prediction) in zip(run.inputs, outcomes, strict=True):
            gated = None if prediction is None else prediction.gated
            output = None if prediction is None else prediction.output
            yield Result(status, source, gated, output.columns if output else {}, score)

    def _classified(self, run: ImageRun, score: float, batch: int, workers: int) -> Iterator[Result]:
        from vindr_det.classification.predict import classify_each

        rows = classify_each(self._classifier, run, workers=workers, batch=batch)
        for source, (status, row) in zip(run.inputs, rows, strict=True):
            columns = {name: row[name] for name in self._classifier.columns} if row else {}
            yield Result(status, source, None, columns, score)

    @property
    def _classifier(self) -> Any:
        return self.models.classifier


def _resolved(device: Device) -> str:
    name = device_name(device)
    if not isinstance(name, str) or not is_device(name):
        raise InputError(f"device {device!r}: expected {DEVICES}")
    return resolve_device(name)


def _given(image: Any) -> Any:
    """A path with the user's home folder in it, and an image of Pillow as its array."""
    from PIL import Image as pillow

    return as_array(image) if isinstance(image, pillow.Image) else expanded(image)


def _is_folder(images: Any) -> bool:
    return isinstance(images, str | Path) and Path(images).is_dir()


def _run(images: Any, recursive: bool, meta: str | Path | None, max_pixels: int) -> ImageRun:
    """The run of whatever is given."""
    for image in images if isinstance(images, list | tuple) else ():
        require_path(image, "a folder of images, or an image")
    if not isinstance(images, list | tuple):
        return _single(images, "array", recursive, meta, max_pixels)
    paths = [Path(image) for image in images if isinstance(image, str | Path) and not _is_folder(image)]
    files = iter(image_run.find_files(paths, max_pixels, meta))
    return image_run.joined([
        next(files) if isinstance(image, str | Path) and not _is_folder(image) else
        _single(image, f"array{number}", recursive, meta, max_pixels) for number, image in enumerate(images)])


def _single(
    image: Any, name: str, recursive: bool, meta: str | Path | None, max_pixels: int
) -> ImageRun:
    if isinstance(image, np.ndarray):
        return image_run.of_array(image, name, max_pixels)
    if isinstance(image, str | Path):
        return image_run.find(image, recursive, max_pixels, meta)
    raise InputError(f"an image of type {type(image).__name__}, expected a path, a numpy array, an image of "
                     "Pillow, or a list of these")
