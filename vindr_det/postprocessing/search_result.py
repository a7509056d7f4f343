"""The result of a search: as text, as the file tuned.json, and read again for vindr-det fuse."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vindr_det import __version__
from vindr_det.classification.probabilities import find_probability_column
from vindr_det.data import in_sample
from vindr_det.exceptions import InputError
from vindr_det.files import read_json, write_json
from vindr_det.metrics.bootstrap import Estimate
from vindr_det.postprocessing.fusion import Fusion
from vindr_det.postprocessing.search_space import Search, Settings


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        settings: the best on the search split, or the defaults where nothing was better.
        default: mAP40 of the defaults on the holdout split.
        tuned: mAP40 of the settings on the holdout split.
        gain: their difference with its paired interval.
        trials: one row per trial.
        images: of both splits.
        uses: how often searches in this folder have reported on holdout images, this time included.
        ends: notes on options that may be better beyond what was searched.
    """

    settings: Settings
    default: float
    tuned: float
    gain: Estimate
    trials: pd.DataFrame = field(repr=False)
    images: Sequence[str] = field(repr=False, default=())
    uses: int = 1
    ends: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """Whether the gain is more than chance explains, by its interval."""
        if self.gain.low > 0:
            return "improves on the defaults"
        if self.gain.high < 0:
            return "is worse than the defaults"
        return "no significant difference from the defaults"

    def text(self) -> str:
        """The result and its caveats, for people."""
        gain = f"gain {self.gain.value:+.4f} [{self.gain.low:+.4f}, {self.gain.high:+.4f}]"
        result = (f"{len(self.trials)} trials; on the holdout split: defaults {self.default:.4f}, tuned "
                  f"{self.tuned:.4f}, {gain}: {self.verdict}")
        seen = (f"note: the holdout images are no longer unseen: this is report {self.uses} on them, and "
                "choosing between reports overestimates the gain" if self.uses > 1 else "")
        lines = [result, seen, *(f"note: {end}" for end in self.ends), str(self.settings)]
        return "\n".join(line for line in lines if line)


def save(path: Path, search: Search, tuned: Tuned) -> None:
    """Write the settings with what they were found on; ``gate apply`` takes the file as a gate."""
    fusion, gate = tuned.settings.fusion, tuned.settings.gate
    column = find_probability_column(search.probabilities)._asdict() if search.probabilities else None
    write_json(path, {
        "fusion": asdict(fusion) if fusion else None, "gate": gate.as_json() if gate else None,
        "held_out": {"default": tuned.default, "tuned": tuned.tuned, "gain": tuned.gain.value,
                     "ci95": [tuned.gain.low, tuned.gain.high], "uses": tuned.uses},
        "trials": len(tuned.trials), "search": asdict(search), **in_sample.as_json(tuned.images),
        "probabilities": column, "at_ends": list(tuned.ends), "version": __version__,
    })


def read_tuned(path: str | Path, files: int | None = None) -> Fusion:
    """The fusion in a file that :func:`save` wrote.

    Args:
        path: the file.
        files: how many are to be fused; None does not check it.

    Raises:
        InputError: not such a file, the search found nothing better than to leave a file unchanged, or it was
            over another number of files.
    """
    return tuned_fusion(read_json(path), path, files)


def tuned_fusion(data: Any, path: str | Path, files: int | None = None) -> Fusion:
    """The fusion that :func:`read_tuned` reads, from what the file holds.

    Args:
        data: its JSON.
        path: named in errors.
        files: as of :func:`read_tuned`.

    Raises:
        InputError: likewise.
    """
    try:
        options, searched = data["fusion"], len(data["search"]["predictions"])
        if options is None:
            raise InputError(f"{path}: the search kept a single file's boxes as they are; nothing to fuse")
        weights = options["weights"]
        fusion = Fusion(**options | {"weights": tuple(weights) if weights else None})
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of vindr-det tune") from error
    if files not in (None, searched):
        raise InputError(f"{path}: was searched over {searched} files, expected as many and got {files}")
    return fusion


def fusion_options(data: Any, path: str | Path, models: int) -> dict[str, Any] | None:
    """What to make the fusion of a search of, for so many models; None where there is nothing to fuse.

    Args:
        data: JSON of :func:`save`.
        path: named in errors.
        models: that the search must have been over.

    Raises:
        InputError: not such a file, a search over another number of files, or one that changes the boxes of a
            single model.
    """
    if models > 1 or not isinstance(data, dict) or data.get("fusion", 0) is not None:
        fusion = tuned_fusion(data, path, models)
        if models == 1:
            raise InputError(f"{path}: fuses the boxes of a single model ({fusion.method}), which vindr-det "
                             "fuse does and vindr-det predict does not; expected a search over several "
                             "models")
        return asdict(fusion)
    return None


def order_note(path: str | Path, predictions: Sequence[str]) -> str:
    """A note on which file gets which weight, as the weights of a search go by the files' order alone.

    Args:
        path: of a file that :func:`save` wrote.
        predictions: the files to be fused.

    Returns:
        Nothing where the names are those of the search, in its order.

    Raises:
        InputError: the names are those of the search, in another order.
    """
    searched = read_json(path)["search"]["predictions"]
    names, given = ([Path(file).name for file in files] for files in (searched, predictions))
    if names == given or len(names) != len(given):
        return ""
    if sorted(names) == sorted(given):
        raise InputError(f"{path}: was searched over {' '.join(names)}, got {' '.join(given)}; expected the "
                         "same order, by which it weights them")
    pairs = ", ".join(f"{old} for {new}" for old, new in zip(searched, predictions, strict=True))
    return f"{path}: weights go by the order of the files: {pairs}"
