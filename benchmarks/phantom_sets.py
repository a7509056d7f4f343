"""Phantoms to train on, made in this process: for benchmarks that time the training alone."""

from pathlib import Path
from typing import Any

from vindr_det.data.convert import convert
from vindr_det.data.release import Conversion
from vindr_det.imaging.prepare import prepare_folder
from vindr_det.imaging.resize import Target
from vindr_det.phantom import make_dataset


def prepared(out: Path, images: int, size: int, workers: int | None = 1) -> Path:
    """``images`` training phantoms, prepared with ``size`` as longest side; returns VINDR.DATA_ROOT.

    Args:
        out: an empty folder.
        images: of which the two last thirds are for training, where fold 0 is held out.
        size: in pixels, of the phantoms too.
        workers: processes; None takes all cores.
    """
    raw, data = out / "raw", out / "data"
    make_dataset(raw, images, 1, size, seed=5, workers=workers)
    prepare_folder(raw / "train", data / "train", Target(size, True), workers)
    convert("vinbigdata", data / "annotations", Conversion(folds=3), annotations=raw / "train.csv",
            meta=raw / "train_meta.csv", images=data / "train")
    return data


def detector_options(data: Path, size: int, batch: int, steps: int, **more: Any) -> list[str]:
    """Overrides of a detector's config: images of one size, no validation, no weights to read.

    Args:
        data: VINDR.DATA_ROOT.
        size: longest side in pixels.
        batch: SOLVER.IMS_PER_BATCH.
        steps: SOLVER.MAX_ITER.
        more: keys with two underscores for the dot.
    """
    options = {"VINDR__DATA_ROOT": data, "VINDR__IMAGE_SIZE": size, "VINDR__VALIDATION": "()",
               "INPUT__MIN_SIZE_TRAIN": f"({size},)", "INPUT__MAX_SIZE_TRAIN": size,
               "INPUT__MIN_SIZE_TEST": size, "INPUT__MAX_SIZE_TEST": size, "MODEL__WEIGHTS": "",
               "SOLVER__IMS_PER_BATCH": batch, "SOLVER__MAX_ITER": steps, "SOLVER__STEPS": "()",
               "SOLVER__WARMUP_ITERS": 0, "SOLVER__BASE_LR": 1e-4, "DATALOADER__NUM_WORKERS": 0,
               "VINDR__EMA_DECAY": 0.999, "SOLVER__CHECKPOINT_PERIOD": 10**6} | more
    return [text for key, value in options.items() for text in (key.replace("__", "."), str(value))]
