"""Gray levels per label, of a sample of its images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det.data.image_labels import ImageLabels
from vindr_det.data.statistics_plots import DARK, SHADES
from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, image_id_of
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target
from vindr_det.limits import require_seed
from vindr_det.parallel import Failure, guarded

#: Gray levels outside are mostly borders, markers and air.
LOW, HIGH = 20, 250
_TARGET = Target(256, keep_aspect=True)
_COLUMNS = 4


@dataclass(frozen=True)
class Intensities:
    """Gray levels of each label's sample.

    Attributes:
        table: a row per label: images read, mean and standard deviation of the levels :data:`LOW` to
            :data:`HIGH`, and the share of pixels that have them.
        shares: label -> (256,) share of the pixels with each gray level.
    """

    table: pd.DataFrame
    shares: Mapping[str, NDArray[np.float64]]


def measure_intensities(
    labels: ImageLabels, images: str | Path, sample: int = 100, seed: int = 0
) -> Intensities:
    """Read up to ``sample`` random images of each label, at 256 pixels.

    Args:
        labels: the table.
        images: folder of images; those that are not there or cannot be read are left out.
        sample: images per label.
        seed: of the sample.

    Raises:
        InputError: ``sample`` is below 1, or none of the table's images can be read.
    """
    if sample < 1:
        raise InputError(f"--sample {sample}: expected 1 or more")
    chosen = _choose(labels, set(paths := list_images(images)), sample, seed)
    needed = sorted({image_id for ids in chosen.values() for image_id in ids})
    histograms = {image_id: histogram for image_id in tqdm(needed, desc="read", unit="image", disable=None)
                  if not isinstance(histogram := guarded(_histogram, paths[image_id]), Failure)}
    if not histograms:
        raise InputError(f"{images}: none of the table's {len(labels.frame)} images is there and can be read")
    sums = {name: np.sum([histograms[image_id] for image_id in ids if image_id in histograms], axis=0)
            for name, ids in chosen.items()}
    shares = {name: total / total.sum() for name, total in sums.items() if np.ndim(total)}
    counts = {name: sum(image_id in histograms for image_id in ids) for name, ids in chosen.items()}
    rows = {name: _row(counts[name], share) for name, share in shares.items()}
    columns = ["images", "mean", "standard_deviation", "share_of_pixels"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("label")
    return Intensities(table.astype({"images": int}), shares)


def _choose(labels: ImageLabels, present: set[str], sample: int, seed: int) -> dict[str, list[str]]:
    """Label -> ids of its sample, of the images that are in the folder."""
    random = np.random.default_rng(require_seed(seed))
    ids = labels.frame["image"].map(image_id_of).to_numpy(str)
    there = np.array([image_id in present for image_id in ids], bool)
    chosen = {}
    for name in labels.labels:
        own = ids[there & (labels.frame[name] == 1).to_numpy()]
        chosen[name] = random.permutation(own)[:sample].tolist()
    return chosen


def _histogram(path: Path) -> NDArray[np.float64]:
    """(256,) share of an image's pixels with each gray level: large images count no more than small ones."""
    pixels = read_image(path, _TARGET).pixels
    return np.bincount(pixels.ravel(), minlength=256) / pixels.size


def _row(count: int, share: NDArray[np.float64]) -> list[float]:
    levels, weight = np.arange(LOW, HIGH + 1), share[LOW : HIGH + 1]
    if not weight.sum():
        return [count, np.nan, np.nan, 0.0]
    mean = float(np.average(levels, weights=weight))
    spread = float(np.average((levels - mean) ** 2, weights=weight)) ** 0.5
    return [count, mean, spread, float(weight.sum())]


def plot_intensities(intensities: Intensities, out: str | Path) -> Path:
    """Write ``intensities.png``: each label's profile over the mean profile of all; returns the file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(intensities.shares)
    mean = np.mean(list(intensities.shares.values()), axis=0)
    rows = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(2.8 * _COLUMNS, 0.6 + 1.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    highest = 105 * max(share[LOW : HIGH + 1].max() for share in intensities.shares.values())
    for axes, name in zip(panels, names, strict=False):
        _draw(axes, name, intensities, mean)
        axes.set_ylim(0, highest)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.suptitle("Gray levels per label (light: mean over the labels)")
    path = Path(out) / "intensities.png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _draw(axes: Any, name: str, intensities: Intensities, mean: NDArray[np.float64]) -> None:
    levels = np.arange(LOW, HIGH + 1)
    row = intensities.table.loc[name]
    axes.fill_between(levels, 100 * mean[LOW : HIGH + 1], color=SHADES[0], linewidth=0)
    axes.plot(levels, 100 * intensities.shares[name][LOW : HIGH + 1], color=DARK, linewidth=1)
    axes.set_title(f"{name} ({row['images']:.0f})\n{row['mean']:.0f} ± {row['standard_deviation']:.0f}",
                   fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlim(LOW, HIGH)
    if axes.get_subplotspec().is_first_col():
        axes.set_ylabel("% of pixels", fontsize=8)
