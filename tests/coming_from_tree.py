"""The files that the commands of docs/coming_from.md name, as phantoms, and a runner of these commands.

A command runs in the tree as it stands on the page. Trainings get keys that end them in seconds. What a
command reads and an earlier one writes is made by running that one first, so that each can be run alone.
"""

import contextlib
import io
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from conftest import ROOT, TINY
from tensorboard.summary.writer.record_writer import RecordWriter

from vindr_det.commands import names, run_command
from vindr_det.structures.label_sets import NIH_LABELS

PAGE = ROOT / "docs/coming_from.md"
SIDE = 96
#: Small networks from random weights; ResNet-18 has no 1x1 convolution to stride in.
DETECTOR = [*TINY, *shlex.split("""MODEL.WEIGHTS "" MODEL.RESNETS.DEPTH 18 MODEL.RESNETS.RES2_OUT_CHANNELS 64
    MODEL.RESNETS.STRIDE_IN_1X1 False MODEL.RESNETS.NORM BN MODEL.BACKBONE.FREEZE_AT 0
    MODEL.FPN.OUT_CHANNELS 32 MODEL.ROI_BOX_HEAD.FC_DIM 64""")]
CLASSIFIER = shlex.split("""MODEL.NAME test_resnet MODEL.PRETRAINED False MODEL.DROP_RATE 0.0 INPUT.SIZE 64
    SOLVER.EPOCHS 1 SOLVER.BATCH_SIZE 8 SOLVER.PRECISION 32-true SOLVER.WARMUP_EPOCHS 0 SOLVER.HOLD_EPOCHS 0
    SOLVER.SELECT last NUM_WORKERS 0 DEVICE cpu""")
_ONE_PROCESS = ["--workers", "1"]
#: Command -> what is added to make it short. The engine is the one that every installation has.
ADDED = {
    "train": ["--engine", "torchvision", *DETECTOR], "train-classifier": CLASSIFIER,
    "prepare": _ONE_PROCESS, "fuse": _ONE_PROCESS,
    # A classifier of few phantoms and a single epoch may be inverted by chance.
    "predict": ["--device", "cpu", "--allow-inverted", *_ONE_PROCESS],
    "gate": ["--allow-inverted", "--folds", "2"],
    "tune": ["--allow-inverted", *_ONE_PROCESS],
    "evaluate-classifier": ["--allow-inverted"]}


def commands() -> list[str]:
    """Every command of the page, in its order, each once."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    return list(dict.fromkeys(line.strip() for line in re.findall(r"(?:^|`)(vindr-det [^`\n]+)", text, re.M)))


class Tree:
    """Runs commands of the page in a folder, each once.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.commands = root, commands()
        self.finished: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def run(self, command: str) -> str:
        """What a command prints; commands whose outputs it reads run before it."""
        if command not in self.finished:
            for before in self._needed(command):
                self.run(before)
            assert command not in self.failed, self.failed[command]
            try:
                self.finished[command] = self._call(shlex.split(command))
            except (Exception, SystemExit) as error:
                self.failed[command] = f"{command}\n{type(error).__name__}: {error}"
                raise AssertionError(self.failed[command]) from error
        return self.finished[command]

    def _needed(self, command: str) -> Iterator[str]:
        """Earlier commands whose output is an argument of this one, or of the config that it names."""
        own = output_of(command)
        named = [word for word in shlex.split(command) if "/" in word]
        named += [path for word in named if word.endswith(".yaml") and (ROOT / word).is_file()
                  for path in re.findall(r"[\w./-]+/[\w./-]+", (ROOT / word).read_text(encoding="utf-8"))]
        for before in self.commands[: self.commands.index(command)]:
            made = output_of(before)
            if made and made != own and any(path == made or path.startswith(f"{made}/") for path in named):
                yield before

    def _call(self, words: list[str]) -> str:
        _, name, *arguments = words
        assert name in names(), f"{name}: no such command"
        printed, here = io.StringIO(), Path.cwd()
        os.chdir(self.root)
        try:
            with contextlib.redirect_stdout(printed):
                status = run_command(name, _with_added(name, arguments))
        finally:
            os.chdir(here)
        assert status == 0, f"exit status {status}"
        return printed.getvalue()


def _with_added(name: str, words: list[str]) -> list[str]:
    """Arguments with those of ADDED: options before the keys at the end, keys after them."""
    added = ADDED.get(name, [])
    first = next((at for at, word in enumerate(words) if re.fullmatch(r"[A-Z]+[A-Z_.]+", word)), len(words))
    split = next((at for at, word in enumerate(added) if re.fullmatch(r"[A-Z]+[A-Z_.]*", word)), len(added))
    return [*words[:first], *added[:split], *words[first:], *added[split:]]


def output_of(command: str) -> str:
    """The file or folder that a command writes: --out, or its config's OUTPUT_DIR."""
    words = shlex.split(command)
    if "--out" in words:
        return words[words.index("--out") + 1]
    if "OUTPUT_DIR" in words:
        return words[words.index("OUTPUT_DIR") + 1]
    if words[1].startswith("train") and "--config" in words:
        config = ROOT / words[words.index("--config") + 1]
        text = config.read_text(encoding="utf-8") if config.is_file() else ""
        stated = re.search(r"^OUTPUT_DIR: (\S+)", text, re.MULTILINE)
        return stated[1] if stated else f"outputs/{config.stem}"
    return ""


def make_tree(root: Path, phantoms: Path) -> Tree:
    """The tree: ``configs``, and below ``raw`` and ``datasets`` what users download."""
    (root / "configs").symlink_to(ROOT / "configs")
    raw = root / "raw"
    raw.mkdir()
    for path in (phantoms / "raw").iterdir():
        (raw / path.name).symlink_to(path)
    _squares(phantoms, raw / "png256")
    _nih(root, [*sorted((raw / "png256/train").iterdir()), *sorted((raw / "png256/test").iterdir())])
    return Tree(root)


def _squares(phantoms: Path, out: Path) -> None:
    """Kaggle's layout: squares in train/ and test/, the tables of original sizes beside them."""
    for split in ("train", "test"):
        (out / split).mkdir(parents=True)
        for path in (phantoms / "data" / split).glob("*.png"):
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(out / split / path.name), cv2.resize(image, (SIDE, SIDE)))
        (out / f"{split}_meta.csv").write_bytes((phantoms / f"raw/{split}_meta.csv").read_bytes())


def _nih(root: Path, pictures: list[Path]) -> None:
    """Tables, lists, TFRecords and the course's tables of 30 images, two per patient, half of them normal."""
    rng, folder = np.random.default_rng(0), root / "raw/nih_images"
    folder.mkdir()
    names = [f"{1 + at // 2:08d}_{at % 2:03d}.png" for at in range(len(pictures))]
    targets = (rng.random((len(names), len(NIH_LABELS))) < 0.8).astype(int)
    targets[::2] = 0
    targets[1::2, 0] = 1
    for name, picture, target in zip(names, pictures, targets, strict=True):
        image = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
        image[:24, :24] = 255 * int(target.any())  # something to learn
        cv2.imwrite(str(folder / name), image)
    _tables(root, names, targets, rng)
    _records(root / "raw/tfrecords", folder, names, targets.any(axis=1))


def _tables(root: Path, names: list[str], targets: np.ndarray, rng: np.random.Generator) -> None:
    patients = [int(name[:8]) for name in names]
    findings = ["|".join(np.array(NIH_LABELS)[target > 0]) or "No Finding" for target in targets]
    pd.DataFrame({
        "Image Index": names, "Finding Labels": findings, "Follow-up #": [int(name[9:12]) for name in names],
        "Patient ID": patients, "Patient Age": 57, "Patient Gender": "M", "View Position": "PA",
        "OriginalImage[Width": SIDE, "Height]": SIDE, "OriginalImagePixelSpacing[x": 0.1, "y]": 0.1,
    }).to_csv(root / "raw/Data_Entry_2017_v2020.csv", index=False)
    # Half to validate: an AUC needs five positive images.
    turn = ("val", "train", "val", "train", "val", "test", "val", "train", "test", "val")
    part = np.array([turn[patient % 10] for patient in patients])
    lists, course = root / "raw/lists", root / "datasets/nih/course"
    lists.mkdir()
    course.mkdir(parents=True)
    (root / "datasets/nih/images-small").symlink_to(root / "raw/nih_images")
    for name in ("train", "val", "test_consensus", "test_attending"):
        own = name.partition("_")[0]
        rows = [f"{names[at]} {int(targets[at].any())}" for at in np.flatnonzero(part == own)]
        (lists / f"cadlab_{name}.txt").write_text("\n".join(rows) + "\n")
    table = pd.DataFrame(targets, columns=list(NIH_LABELS)).assign(PatientId=patients)
    table.insert(0, "Image", names)
    for name, own in (("train-small", "train"), ("valid-small", "val"), ("test", "test")):
        chosen = part == own
        if own == "val":
            chosen[np.flatnonzero(part == "train")[0]] = True  # the leak that the course's tables have
        table[chosen].to_csv(course / f"{name}.csv", index=False)
    others = pd.DataFrame(0.7 * targets + 0.3 * rng.random(targets.shape), columns=list(NIH_LABELS))
    others.insert(0, "image_id", [name[:-4] for name in names])
    others.to_csv(root / "raw/others_nih14.csv", index=False)


def _records(folder: Path, images: Path, names: list[str], abnormal: np.ndarray) -> None:
    """TFRecords as published: two files for training, the last third of the images for the test."""
    folder.mkdir()
    parts = np.array_split(np.arange(len(names)), 3)
    for stem, rows in zip(("train_valid00", "train_valid01", "test00"), parts, strict=True):
        with (folder / f"{stem}-{len(rows)}.tfrec").open("wb") as file:
            writer = RecordWriter(file)
            for at in rows:
                gray = cv2.imread(str(images / names[at]), cv2.IMREAD_GRAYSCALE)
                picture = cv2.imencode(".jpg", cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))[1].tobytes()
                writer.write(_example(picture, names[at].encode(), int(abnormal[at])))


def _example(image: bytes, name: bytes, label: int) -> bytes:
    """A serialized tf.train.Example: features is field 1, its map has key 1 and value 2."""
    def field(number: int, data: bytes) -> bytes:
        size, digits = len(data), []
        while size > 127:
            digits, size = [*digits, size & 127 | 128], size >> 7
        return bytes([number << 3 | 2, *digits, size]) + data

    features = {b"image": field(1, field(1, image)), b"image_idx": field(1, field(1, name)),
                b"label": field(3, field(1, bytes([label])))}
    return field(1, b"".join(field(1, field(1, key) + field(2, value)) for key, value in features.items()))
