"""The commands of ``vindr-det``, a module each with a ``main``; ``tools/`` has a script for each.

No command is imported here: ``vindr-det --help`` waits for none of their libraries.
"""

import difflib
from collections.abc import Sequence
from importlib import import_module

from vindr_det.exceptions import InputError

#: Group -> command -> what it does.
COMMANDS = {
    "Data": {
        "convert": "a published data set to COCO JSON, folds by patient and labels; or to YOLO",
        "convert-tfrecords": "TFRecord files to image files and a label table",
        "prepare": "DICOM, PNG or JPEG to PNG of one size, in parallel, resumable",
        "describe": "classes, sizes, readers and gray levels of a data set in one overview",
        "check-leaks": "patients that are in two tables",
        "phantoms": "synthetic chest X-rays as DICOM, with tables like VinBigData's",
        "plan": "a detector's config that fits a data set",
        "fit-anchors": "anchor sizes and aspect ratios of the boxes",
    },
    "Models": {
        "train": "train a detector, with Detectron2 or torchvision",
        "train-classifier": "train a classifier of whole images",
        "plot-training": "the curves of a training",
        "export": "a detector as ONNX",
        "bundle": "detectors, classifier and gate in one folder or file; copy it, push it to a hub",
        "explain": "Grad-CAM of a classifier",
    },
    "Results": {
        "predict": "images to boxes: a submission and tables of what was read and detected",
        "classify": "images to probabilities",
        "fuse": "several predictions to one",
        "gate": "fit or apply a gate by a classifier's probabilities",
        "tune": "search thresholds, fusion and gate",
        "evaluate": "score predictions",
        "evaluate-classifier": "score probabilities",
        "check-submission": "check or repair a submission",
        "visualize": "draw boxes",
        "annotate": "boxes to Label Studio, CVAT or FiftyOne, for correction, and back",
        "serve": "a web page and JSON for the models of a bundle, on this machine",
        "report": "a run as one page: scores, curves, errors, and its cases to look at",
    },
    "Hospital": {
        "dicom-out": "predictions to DICOM objects: a picture, a report, graphics on the original",
        "listen": "a DICOM node that takes images, predicts them and sends the answers back",
    },
    "First steps": {"demo": "the whole path on phantoms, from images to a scored submission"},
}


def names() -> list[str]:
    """All commands."""
    return [name for group in COMMANDS.values() for name in group]


def no_such(command: str) -> str:
    """What to say of a name that is no command."""
    near = difflib.get_close_matches(command, names(), 1)
    return f"no such command; {f'did you mean {near[0]}?' if near else 'vindr-det --help lists them'}"


def module_of(command: str) -> str:
    """The name of a command's module."""
    return f"vindr_det.commands.{command.replace('-', '_')}"


def main_of(command: str):
    """The ``main(argv)`` of a command."""
    return import_module(module_of(command)).main


def run_command(command: str, argv: Sequence[str]) -> int:
    """Run a command in this process; returns its exit status.

    Raises:
        InputError: no such command, or bad input.
    """
    if command not in names():
        raise InputError(f"{command}: {no_such(command)}")
    return main_of(command)(list(argv)) or 0
