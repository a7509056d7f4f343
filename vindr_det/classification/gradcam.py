"""Grad-CAM maps of a classifier (Selvaraju et al., 2017), by the grad-cam package."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from vindr_det.classification.data import to_tensor
from vindr_det.classification.map_agreement import MapComparison
from vindr_det.classification.predict import Classifier
from vindr_det.files import write_png
from vindr_det.imaging import image_run
from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.image_run import ImageResult, ImageRun
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import FAILED, Status
from vindr_det.parallel import guarded

#: Height of the title above a panel, and longer side of a panel, pixels.
_TITLE_HEIGHT, _SIDE = 24, 480
_BAR_WIDTH = 44
_NO_BOXES = np.zeros((0, 4))
_SHOWN = Target(_SIDE, keep_aspect=True)


class Explainer:
    """Draws the maps of a classifier.

    Args:
        classifier: convolutional, or a transformer with a grid of tokens.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier, self.size = classifier, classifier.cfg.INPUT.SIZE
        self._offsets = [off_center(model, self.size) for model in classifier.models]

    def heat_map(self, image: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
        """(H, W) in 0..1, highest where the evidence for a label is; the mean of all folds' maps.

        Args:
            image: (H, W) uint8.
            label: position among the classifier's columns.
        """
        normalizations = self.classifier.normalizations
        batches = {normalize: to_tensor(image, self.size, normalize)[None].to(self.classifier.device)
                   for normalize in set(normalizations)}
        maps = [_heat_map(model, batches[normalize], label, offset) for model, normalize, offset
                in zip(self.classifier.models, normalizations, self._offsets, strict=True)]
        mean = np.mean(maps, axis=0)
        mean = (mean - mean.min()) / max(float(np.ptp(mean)), 1e-12)
        return cv2.resize(mean.astype(np.float32), image.shape[::-1], interpolation=cv2.INTER_LINEAR)

    def sheet(
        self, image: NDArray[np.uint8], labels: Sequence[int] = (), top: int = 3, side: int = _SIDE,
        boxes: Callable[[str], NDArray[np.float64]] | None = None,
        model_input: NDArray[np.uint8] | None = None,
        keep: Callable[[str, NDArray[np.float32]], object] | None = None,
    ) -> NDArray[np.uint8]:
        """The image, an overlay per label with its name and probability, and a color bar: (H, W, 3) BGR.

        Args:
            image: (H, W) uint8.
            labels: positions among the columns; without any the ``top`` most probable.
            top: number of labels.
            side: longer side of each panel, pixels.
            boxes: from a column to (M, 4) xyxy in the image's pixels, drawn over its panel, those of all
                panels over the image; the models do not see them. None for none.
            model_input: (H, W) uint8, the image as it is read for the models; None takes ``image``.
            keep: is called with the column and the map of each label; None for none.
        """
        model_input = image if model_input is None else model_input
        p = self.classifier.probabilities([model_input])[0]
        selected = list(labels) or np.argsort(-p, kind="stable")[:top].tolist()
        factor = side / max(image.shape)
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        gray = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
        columns = [self.classifier.columns[label] for label in selected]
        scaled = [_NO_BOXES if boxes is None else boxes(column) * factor for column in columns]
        panels = [_titled(_outlined(gray, np.concatenate([_NO_BOXES, *scaled])), "image")]
        for label, column, drawn in zip(selected, columns, scaled, strict=True):
            heat = self.heat_map(model_input, label)
            if keep is not None:
                keep(column, heat)
            overlay = blend(image, heat, side)
            panels.append(_titled(_outlined(overlay, drawn), f"{column} {p[label]:.2f}"))
        return np.concatenate([*panels, _color_bar(panels[0].shape[0])], axis=1)

    def peak(self, image: NDArray[np.uint8], label: int) -> tuple[float, float]:
        """(x, y) of the map's maximum in the image's pixels."""
        heat = self.heat_map(image, label)
        y, x = np.unravel_index(int(heat.argmax()), heat.shape)
        return float(x) + 0.5, float(y) + 0.5

    def points_at(self, image: NDArray[np.uint8], boxes: NDArray[np.float64], label: int) -> bool:
        """Whether the map's maximum is in one of the true boxes (the pointing game; Zhang et al., 2016).

        Args:
            image: (H, W) uint8.
            boxes: (M, 4) xyxy in the image's pixels.
            label: position among the classifier's columns.
        """
        x, y = self.peak(image, label)
        inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
        return bool(inside.any())


def _write_map(folder: Path, image_id: str, column: str, heat: NDArray[np.float32]) -> None:
    write_png(folder / f"{image_id}.{column}.png", (np.clip(heat, 0, 1) * 255).round().astype(np.uint8))


def blend(image: NDArray[np.uint8], heat: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """A map over its image: (H', W', 3) uint8 BGR.

    Args:
        image: (H, W) uint8.
        heat: (H'', W'') in 0..1, of any size.
        side: longer side of the result, pixels.
    """
    factor = side / max(image.shape)
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    gray = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    heat = cv2.resize(heat, size)
    color = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = 0.6 * heat[..., None]
    return (gray * (1 - alpha) + color * alpha).astype(np.uint8)


def draw_all(
    explainer: Explainer, run: ImageRun, out: Path, labels: Sequence[int], top: int, count: int,
    workers: int | None = None, maps: Path | None = None, compared: MapComparison | None = None,
) -> list[Status]:
    """Write ``<image_id>.png`` of the first ``count`` images that can be read and explained.

    Args:
        explainer: of a classifier.
        run: of :func:`vindr_det.imaging.image_run.find`.
        out: an existing folder.
        labels: positions among the classifier's columns; without any the ``top`` most probable.
        top: number of labels.
        count: number of pictures.
        workers: processes that read; None takes one per core.
        maps: an existing folder for the maps alone, ``<image_id>.<column>.png``, gray, over the whole image;
            None for none.
        compared: takes the maps, and has the boxes that are drawn over them; None for no boxes.

    Returns:
        A status per image that was tried.
    """
    statuses: list[Status] = []
    with tqdm(total=min(count, len(run.inputs)), desc="explain", unit="image", disable=None) as bar:
        for result in image_run.read_all(run, explainer.classifier.target, workers, also=[_SHOWN]):
            statuses.append(_draw(explainer, result, out, labels, top, maps, compared))
            drawn = sum(status.status != FAILED for status in statuses)
            bar.update(drawn - bar.n)
            if drawn == count:
                break
    return statuses


def _draw(
    explainer: Explainer, result: ImageResult, out: Path, labels: Sequence[int], top: int,
    maps: Path | None, compared: MapComparison | None,
) -> Status:
    def draw(image: DecodedImage) -> None:
        shown, original = image.at(_SHOWN), (image.height, image.width)

        def keep(column: str, heat: NDArray[np.float32]) -> None:
            if maps is not None:
                _write_map(maps, result.status.image_id, column, heat)
            if compared is not None:
                compared.add(result.status.image_id, original, column, heat)

        boxes = None if compared is None else partial(
            compared.shown, result.status.image_id, original=original, shape=shown.shape)
        write_png(path, explainer.sheet(shown, labels, top, boxes=boxes, model_input=image.pixels, keep=keep))

    path = out / f"{result.status.image_id}.png"
    guarded(lambda old: old.unlink(missing_ok=True), path)  # of an earlier run
    if result.image is None:
        return result.status
    failure = guarded(draw, result.image)
    if failure is None:
        return result.status
    return replace(result.status, status=FAILED, reason=f"was read, but not explained: {failure.reason}")


def _heat_map(
    model: nn.Module, batch: Tensor, label: int, offset: tuple[float, float]
) -> NDArray[np.float32]:
    """(S, S) of one model for a (1, 1, S, S) batch, shifted by ``offset`` pixels (x, y)."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model, [last_features(model)], reshape_transform=_to_grid(model)) as cam:
        heat = cam(batch, [ClassifierOutputTarget(label)])[0]
    matrix = np.array([[1, 0, offset[0]], [0, 1, offset[1]]], dtype=np.float32)
    return cv2.warpAffine(heat, matrix, heat.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def off_center(model: nn.Module, size: int) -> tuple[float, float]:
    """(x, y) in pixels from the center of a feature's cell in an enlarged map to that of its receptive field.

    Strided convolutions with symmetric padding have receptive fields that are centered up to half a cell
    above and to the left of the center of their cell; without this offset, maps of such networks lie too far
    down and to the right. It is estimated from the gradient of the middle feature.
    """
    kept: list[Tensor] = []
    hook = last_features(model).register_forward_hook(lambda _, __, out: kept.append(out))
    image = torch.rand(8, 1, size, size, generator=torch.Generator().manual_seed(0))
    image = image.to(next(model.parameters()).device).requires_grad_()
    try:
        model(image)
    finally:
        hook.remove()
    grid = _to_grid(model)
    features = grid(kept[0]) if grid else kept[0]
    rows, columns = features.shape[-2:]
    row, column = rows // 2, columns // 2
    (slope,) = torch.autograd.grad(features[:, :, row, column].square().sum(), image)
    weight = slope.abs().sum(dim=(0, 1)).cpu().numpy() ** 2
    weight /= weight.sum()
    pixels = np.arange(size) + 0.5
    cell = ((column + 0.5) * size / columns, (row + 0.5) * size / rows)
    field = (float((weight.sum(axis=0) * pixels).sum()), float((weight.sum(axis=1) * pixels).sum()))
    return field[0] - cell[0], field[1] - cell[1]


def last_features(model: nn.Module) -> nn.Module:
    """The last layer whose output is a grid over the image."""
    blocks = getattr(model, "blocks", None)
    if getattr(model, "num_prefix_tokens", None) is not None and blocks is not None:
        return blocks[-1].norm1  # what follows may reach the head by the class token alone
    return model.get_submodule(model.feature_info[-1]["module"])


def _to_grid(model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Reshapes a layer's output to (B, C, H, W); None where it has that shape."""
    prefix = getattr(model, "num_prefix_tokens", None)
    if prefix is not None and hasattr(model, "patch_embed"):
        rows, columns = model.patch_embed.grid_size
        return lambda out: out[:, prefix:].reshape(len(out), rows, columns, -1).permute(0, 3, 1, 2)
    if str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC"):
        return lambda out: out.permute(0, 3, 1, 2)
    return None


def _color_bar(height: int) -> NDArray[np.uint8]:
    """(H, W, 3) BGR: the colors of the maps from 0, no evidence, to 1, the map's maximum."""
    bar = np.zeros((height, _BAR_WIDTH, 3), np.uint8)
    ramp = np.linspace(255, 0, height - _TITLE_HEIGHT).astype(np.uint8)[:, None]
    bar[_TITLE_HEIGHT:, 6:22] = cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)
    for text, y in (("1", _TITLE_HEIGHT + 14), ("0", height - 4)):
        cv2.putText(bar, text, (28, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return bar


def _outlined(picture: NDArray[np.uint8], boxes: NDArray[np.float64]) -> NDArray[np.uint8]:
    drawn = picture.copy()
    for x0, y0, x1, y1 in boxes.round().astype(int).tolist():
        cv2.rectangle(drawn, (x0, y0), (x1, y1), (255, 255, 255), 1)
    return drawn


def _titled(picture: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    strip = np.zeros((_TITLE_HEIGHT, picture.shape[1], 3), np.uint8)
    cv2.putText(strip, title, (6, _TITLE_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1,
                cv2.LINE_AA)
    return np.pad(np.concatenate([strip, picture]), ((0, 0), (0, 4), (0, 0)))
