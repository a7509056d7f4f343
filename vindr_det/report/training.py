"""The section of a training: losses, metrics and learning rate over iterations or epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vindr_det.exceptions import InputError
from vindr_det.figures import palette
from vindr_det.imaging.palette import code_of
from vindr_det.report.blocks import Block, LineChart, Section, Series
from vindr_det.training.plots import Curves, read_history, read_metrics
from vindr_det.training.results import histories, is_component

#: Chart -> what a key is called in it.
_LOSSES = {"total_loss": "training", "validation_loss": "validation",
           "validation_normal/loss": "validation, normal images",
           "validation_abnormal/loss": "validation, abnormal images"}
_APS = {"vindr/mAP40": "mAP at IoU > .4", "voc/mAP40": "mAP at IoU > .4", "coco/AP40": "COCO AP at IoU .40",
        "coco/AP50": "COCO AP50", "coco/AP": "COCO AP"}
_CLASS_AP = ("vindr/AP40/", "voc/AP40/")
_FOLD_PARTS = {"": "training", "inner_": "set aside", "held_out_": "held out"}
_COLORS = ("#7a7a7a", "#2f6fb0", "#4f8f2f", "#c06020", "#8a4fb0")


def training_section(
    folder: str | None, name: str = "training", title: str = "Training", classes: Sequence[str] = ()
) -> Section | None:
    """Curves of a detector's or a classifier's OUTPUT_DIR; None without one, or without any curve.

    Args:
        folder: the OUTPUT_DIR.
        name: of the section's anchor.
        title: of the section.
        classes: of the page, whose colors those of the training have too.

    Raises:
        InputError: the folder has no such files, or they are damaged.
    """
    if folder is None:
        return None
    folds = histories(folder)
    if not folds and not (Path(folder) / "metrics.json").is_file():
        raise InputError(
            f"{folder}: has no metrics.json and no fold*_history.csv, expected the OUTPUT_DIR of "
            "vindr-det train or train-classifier"
        )
    blocks = (_of_classifier({fold: read_history(path) for fold, path in folds.items()}) if folds else
              _of_detector(read_metrics(Path(folder) / "metrics.json"), classes))
    return Section(name, title, blocks) if blocks else None


def _of_detector(curves: Curves, classes: Sequence[str]) -> list[Block]:
    of_class = {key.split("/", 2)[2]: points for key, points in curves.items() if key.startswith(_CLASS_AP)}
    colors = {name: code_of(at) for at, name in enumerate(dict.fromkeys([*classes, *of_class]))}
    aps = [Series(name, of_class[name], color, marked=len(of_class[name]) < 40)
           for name, color in colors.items() if name in of_class]
    parts = {key.removeprefix("loss_"): curves[key] for key in curves if is_component(key)}
    return _charts("iterations", [
        ("Loss", "loss", _named(curves, _LOSSES), False),
        ("Components of the training loss", "loss", _lines(parts), False),
        ("Average precision", "AP", _named(curves, _APS), False),
        ("AP at IoU > .4 per class", "AP", aps, True),
        ("Learning rate", "learning rate", _named(curves, {"lr": "learning rate"}), False)])


def _of_classifier(folds: Mapping[int, Curves]) -> list[Block]:
    def lines(kind: str) -> list[Series]:
        colors = [_hex(color) for color in palette(len(folds))]
        return [
            Series(
                f"fold {fold}, {part}",
                curves[f"{prefix}{kind}"],
                colors[at],
                dashed=not prefix and kind != "lr",
                marked=True,
            )
            for at, (fold, curves) in enumerate(folds.items())
            for prefix, part in _FOLD_PARTS.items()
            if len(curves.get(f"{prefix}{kind}", ()))
        ]

    return _charts("epochs", [("Loss", "loss", lines("loss"), False), ("AUC", "AUC", lines("auc"), False),
                              ("Learning rate", "learning rate", lines("lr"), False)])


def _charts(unit: str, parts: Sequence[tuple[str, str, Sequence[Series], bool]]) -> list[Block]:
    """A chart per title, y axis, lines and ground, of those with lines."""
    return [LineChart(title, f"{title} over {unit}.", unit, label, series, film=film)
            for title, label, series, film in parts if series]


def _named(curves: Curves, names: Mapping[str, str]) -> list[Series]:
    return _lines({name: curves[key] for key, name in names.items() if key in curves})


def _lines(curves: Curves) -> list[Series]:
    colors = _COLORS if len(curves) <= len(_COLORS) else [_hex(color) for color in palette(len(curves))]
    return [Series(name, points, color, marked=len(points) < 40)
            for (name, points), color in zip(curves.items(), colors, strict=False)]


def _hex(color: object) -> str:
    from matplotlib.colors import to_hex

    return to_hex(color)  # type: ignore[arg-type]
