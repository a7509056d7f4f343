"""Where a classifier looks: grad-cam's Grad-CAM (Selvaraju et al., 2017), the mean over the folds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from vindr_det.classification.data import squeeze
from vindr_det.classification.model import Classifier
from vindr_det.files import write_png
from vindr_det.imaging import image_run
from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.image_run import ImageRun, Looked
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import FAILED, Status
from vindr_det.parallel import guarded

_STRIP = 24
# Of each panel, pixels.
_SIDE = 480
_SHOWN = Target(_SIDE, keep_aspect=True)


class Explainer:
    """Maps and pictures of one classifier.

    Args:
        classifier: of any number of folds; convolutional, or a transformer with a grid of tokens.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier, self.size = classifier, classifier.cfg.INPUT.SIZE
        self._moves = [off_center(model, self.size) for model in classifier.models]

    def heat_map(self, image: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
        """(H, W) in 0..1, highest where the models see a label; the mean of all folds' maps.

        Args:
            image: (H, W) uint8.
            label: position among the classifier's columns.
        """
        batch = self.classifier.normalize(squeeze(image, self.size))[None]
        maps = [_one(model, batch.to(next(model.parameters()).device), label, move)
                for model, move in zip(self.classifier.models, self._moves, strict=True)]
        mean = np.mean(maps, axis=0)
        mean = (mean - mean.min()) / max(float(np.ptp(mean)), 1e-12)
        return cv2.resize(mean.astype(np.float32), image.shape[::-1], interpolation=cv2.INTER_LINEAR)

    def sheet(
        self, image: NDArray[np.uint8], labels: Sequence[int] = (), top: int = 3, side: int = _SIDE,
        boxes: NDArray[np.float64] | None = None, seen: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """The image and beside it an overlay a label, with its name and probability: (H, W, 3) BGR.

        Args:
            image: (H, W) uint8.
            labels: positions among the columns; without any the ``top`` likeliest.
            top: how many.
            side: of each panel, pixels.
            boxes: (M, 4) xyxy in the image's pixels, drawn over every panel; the models do not see them.
            seen: (H, W) uint8, the image as it is read for the models; None shows them ``image``.
        """
        seen = image if seen is None else seen
        p = self.classifier.probabilities([seen])[0]
        chosen = list(labels) or np.argsort(-p, kind="stable")[:top].tolist()
        factor = side / max(image.shape)
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        gray = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
        drawn = np.zeros((0, 4)) if boxes is None else boxes * factor
        panels = [_titled(_outlined(gray, drawn), "image")]
        for label in chosen:
            heat = cv2.resize(self.heat_map(seen, label), size)
            color = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
            strength = 0.6 * heat[..., None]
            mixed = (gray * (1 - strength) + color * strength).astype(np.uint8)
            title = f"{self.classifier.columns[label]} {p[label]:.2f}"
            panels.append(_titled(_outlined(mixed, drawn), title))
        return np.concatenate(panels, axis=1)

    def where_it_looks(self, image: NDArray[np.uint8], label: int) -> tuple[float, float]:
        """(x, y) of the map's maximum in the image's pixels: what the pointing game asks for."""
        heat = self.heat_map(image, label)
        y, x = np.unravel_index(int(heat.argmax()), heat.shape)
        return float(x) + 0.5, float(y) + 0.5

    def points_at(self, image: NDArray[np.uint8], boxes: NDArray[np.float64], label: int) -> bool:
        """Whether the maximum lies in one of the true boxes (the pointing game; Zhang et al., 2016).

        Args:
            image: (H, W) uint8.
            boxes: (M, 4) xyxy in the image's pixels.
            label: position among the classifier's columns.
        """
        x, y = self.where_it_looks(image, label)
        inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
        return bool(inside.any())


def draw_all(
    explainer: Explainer, run: ImageRun, out: Path, labels: Sequence[int], top: int, count: int,
    workers: int | None = None,
) -> list[Status]:
    """Write ``<image_id>.png`` of the first ``count`` images that can be read and explained.

    Args:
        explainer: of a classifier.
        run: of :func:`vindr_det.imaging.image_run.find`.
        out: an existing folder.
        labels: positions among the classifier's columns; without any the ``top`` likeliest.
        top: how many.
        count: how many pictures.
        workers: processes that read; None takes one per core.

    Returns:
        One for each image that was tried.
    """
    statuses: list[Status] = []
    with tqdm(total=min(count, len(run.inputs)), desc="explain", unit="image", disable=None) as bar:
        for one in image_run.read_all(run, explainer.classifier.target, workers, also=[_SHOWN]):
            statuses.append(_drawn(explainer, one, out, labels, top))
            drawn = sum(status.status != FAILED for status in statuses)
            bar.update(drawn - bar.n)
            if drawn == count:
                break
    return statuses


def _drawn(explainer: Explainer, one: Looked, out: Path, labels: Sequence[int], top: int) -> Status:
    def draw(image: DecodedImage) -> None:
        write_png(path, explainer.sheet(image.at(_SHOWN), labels, top, seen=image.pixels))


    path = out / f"{one.status.image_id}.png"
    guarded(lambda old: old.unlink(missing_ok=True), path)  # it would pass for this run's
    if one.image is None:
        return one.status
    failure = guarded(draw, one.image)
    if failure is None:
        return one.status
    return replace(one.status, status=FAILED, reason=f"was read, but not explained: {failure.reason}")


def _one(
    model: nn.Module, batch: Tensor, label: int, move: tuple[float, float]
) -> NDArray[np.float32]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model, [last_features(model)], reshape_transform=_to_grid(model)) as cam:
        found = cam(batch, [ClassifierOutputTarget(label)])[0]
    matrix = np.array([[1, 0, move[0]], [0, 1, move[1]]], dtype=np.float32)
    return cv2.warpAffine(found, matrix, found.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def off_center(model: nn.Module, size: int) -> tuple[float, float]:
    """(x, y) in pixels from where an enlarged map shows a feature to where the feature looks.

    Strided convolutions with as much padding on either side look up and to the left of the middle of their
    cell, by half a cell in all; without this, maps of such networks lie too far down and to the right. The
    place is measured: the center of what a middle feature's value depends on.
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
    places = np.arange(size) + 0.5
    shown = ((column + 0.5) * size / columns, (row + 0.5) * size / rows)
    looks = (float((weight.sum(axis=0) * places).sum()), float((weight.sum(axis=1) * places).sum()))
    return looks[0] - shown[0], looks[1] - shown[1]


def last_features(model: nn.Module) -> nn.Module:
    """The layer whose output still has a place for every part of the image."""
    blocks = getattr(model, "blocks", None)
    if getattr(model, "num_prefix_tokens", None) is not None and blocks is not None:
        return blocks[-1].norm1  # what follows reaches the head by the class token alone
    return model.get_submodule(model.feature_info[-1]["module"])


def _to_grid(model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What brings a layer's output to (B, C, H, W), as Grad-CAM takes it."""
    prefix = getattr(model, "num_prefix_tokens", None)
    if prefix is not None and hasattr(model, "patch_embed"):
        rows, columns = model.patch_embed.grid_size
        return lambda out: out[:, prefix:].reshape(len(out), rows, columns, -1).permute(0, 3, 1, 2)
    if str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC"):
        return lambda out: out.permute(0, 3, 1, 2)
    return None


def _outlined(picture: NDArray[np.uint8], boxes: NDArray[np.float64]) -> NDArray[np.uint8]:
    drawn = picture.copy()
    for x0, y0, x1, y1 in boxes.round().astype(int).tolist():
        cv2.rectangle(drawn, (x0, y0), (x1, y1), (255, 255, 255), 1)
    return drawn


def _titled(picture: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    strip = np.zeros((_STRIP, picture.shape[1], 3), np.uint8)
    cv2.putText(strip, title, (6, _STRIP - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.pad(np.concatenate([strip, picture]), ((0, 0), (0, 4), (0, 0)))
