"""The files that the pages' commands name, as phantoms, and a runner of these commands.

A command runs as it stands on the page. Trainings get keys that end them in seconds, and the commands of
``PREPARED`` have run in the tree that every page's folder is a copy of.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import page_releases
import pandas as pd
from conftest import ROOT, TINY, of_another_label_set
from pacs_files import in_hospital
from tensorboard.summary.writer.record_writer import RecordWriter

from vindr_det.commands import main_of, run_command
from vindr_det.commands.demo import steps
from vindr_det.structures.label_sets import NIH_BOXES, NIH_LABELS

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
    "gate fit": ["--allow-inverted", "--folds", "2"], "gate apply": ["--allow-inverted"],
    "tune": ["--allow-inverted", "--trials", "4", *_ONE_PROCESS],
    "evaluate-classifier": ["--allow-inverted"], "classify": _ONE_PROCESS, "explain": _ONE_PROCESS,
    "phantoms": _ONE_PROCESS, "report": [*_ONE_PROCESS, "--bootstrap", "20"]}
#: Exit statuses beside 0 that the pages tell of.
STATUSES = {"check-leaks": (0, 2)}
#: What is put in the place of numbers that would take minutes.
SHORTER = {"--num-train": "6", "--num-test": "3", "--bootstrap": "20"}
#: Command -> what it leaves in the folder of --out or OUTPUT_DIR.
LEAVES = {"train": "best_predictions.json", "train-classifier": "metrics.json",
          "evaluate-classifier": "metrics.json", "convert-tfrecords": "packed.npy"}
#: Scripts of tools/ with another name than their command.
RENAMED = {"train_net": "train", "prepare_images": "prepare", "make_phantoms": "phantoms"}
#: Commands of the pages that have run before a page is read.
PREPARED = [
    "vindr-det prepare --images raw/train --out datasets/vindr/train --size 1280 --keep-aspect",
    "vindr-det prepare --images raw/test --out datasets/vindr/test --size 1280 --keep-aspect",
    "vindr-det convert vinbigdata --annotations raw/train.csv --meta datasets/vindr/train/meta.csv "
    "--images datasets/vindr/train --out datasets/vindr/annotations --folds 5",
    "vindr-det train --config configs/vindr_frcnn.yaml",
    "vindr-det train-classifier --config configs/classifier/vindr_binary_effnet_b2.yaml --fold all",
    "vindr-det predict --dataset vindr_val_fold0 --out val.csv",
    "vindr-det predict --out submission.csv",
    "vindr-det classify --classifier outputs/vindr_binary_effnet_b2 --images datasets/vindr/test "
    "--out predictions.csv"]


class Tree:
    """Runs commands in a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, command: str) -> str:
        """What a command prints.

        Raises:
            AssertionError: it fails, or leaves nothing where it should.
        """
        words = shlex.split(command)
        printed, here = io.StringIO(), Path.cwd()
        os.chdir(self.root)
        try:
            with contextlib.redirect_stdout(printed):
                status = _main(words)(_shortened(words)) or 0
        finally:
            os.chdir(here)
        assert status in STATUSES.get(name_of(words), (0,)), f"exit status {status}"
        made = output_of(words)
        assert printed.getvalue().strip() or made, "prints nothing"
        expected = self.root / made / LEAVES.get(name_of(words), "")
        if "--shard" in words:
            expected = expected.with_suffix(".parts")
        assert not made or expected.exists(), f"left no {expected.relative_to(self.root)}"
        return printed.getvalue()

    def execute(self, code: str, names: dict) -> None:
        """Run a snippet with the names that the snippets before it have left."""
        here = Path.cwd()
        os.chdir(self.root)
        try:
            exec(compile(code, "snippet", "exec"), names)
        finally:
            os.chdir(here)

    def copy(self, root: Path) -> "Tree":
        """The same files below another folder, as links to the same data."""
        shutil.copytree(self.root, root, symlinks=True, copy_function=os.link)
        return Tree(root)


def name_of(words: list[str]) -> str:
    """The command that a line runs, also by its script in tools/."""
    if words[0] == "vindr-det":
        return words[1]
    script = Path(words[1]).stem
    return RENAMED.get(script, script.replace("_", "-"))


def _main(words: list[str]):
    if words[0] == "vindr-det":
        return _demo if words[1] == "demo" else main_of(words[1])
    script = ROOT / words[1]
    assert script.is_file(), f"{words[1]}: no such tool"
    spec = importlib.util.spec_from_file_location(f"page_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def _demo(argv: list[str]) -> int:
    """The steps of ``vindr-det demo --quick``, as short as the pages' own, without a new process for each."""
    out = Path(argv[argv.index("--out") + 1])
    return max(run_command(step[0], _with_added(["vindr-det", *step], step[1:]))
               for step in steps(out, "torchvision", seed=7, quick=True))


def _shortened(words: list[str]) -> list[str]:
    """Arguments with those of ADDED: options before the keys at the end, added keys before the own."""
    return _with_added(words, [SHORTER.get(words[at - 1], word) for at, word in enumerate(words)][2:])


def _with_added(words: list[str], own: list[str]) -> list[str]:
    added = ADDED.get(name_of(words)) or ADDED.get(" ".join(words[1:3]), [])
    first, split = _first_key(own), _first_key(added)
    return [*own[:first], *added[:split], *added[split:], *own[first:]]


def _first_key(words: list[str]) -> int:
    key = re.compile(r"[A-Z]+(?:_[A-Z]+)*(?:\.[A-Z0-9_.]+)?")
    return next((at for at, word in enumerate(words) if key.fullmatch(word)), len(words))


def output_of(words: list[str]) -> str:
    """The file or folder that a command writes: --out, or a training's OUTPUT_DIR."""
    for option in ("--out", "OUTPUT_DIR"):
        if option in words:
            return words[words.index(option) + 1]
    if name_of(words).startswith("train"):
        config = ROOT / words[words.index("--config") + 1]
        text = config.read_text(encoding="utf-8") if config.is_file() else ""
        return "".join(re.findall(r"^OUTPUT_DIR: (\S+)", text, re.MULTILINE))
    return ""


def make_tree(root: Path, phantoms: Path) -> Tree:
    """The tree: ``configs``, and below ``raw`` and ``datasets`` what users download, prepare and convert."""
    (root / "configs").symlink_to(ROOT / "configs")
    raw = root / "raw"
    raw.mkdir()
    for path in (phantoms / "raw").iterdir():
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, raw / path.name)
    _squares(phantoms, raw / "png256")
    _nih(root, [*sorted((raw / "png256/train").iterdir()), *sorted((raw / "png256/test").iterdir())])
    page_releases.write(raw)
    _many(raw)
    tree = Tree(root)
    for command in PREPARED[:3]:
        tree.run(command)
    _own(root)
    shutil.copy(min((raw / "test").iterdir()), root / "own/x.dicom")
    (root / "hospital").mkdir()
    for number, path in enumerate(sorted((raw / "test").iterdir())):
        in_hospital(path, root / f"hospital/{path.name}", number)
    for command in PREPARED[3:]:
        tree.run(command)
    return tree


def _own(root: Path) -> None:
    """Data sets of other label sets: NIH's in parts, and a COCO file that somebody made."""
    vindr, nih = root / "datasets/vindr", root / "datasets/nih"
    of_another_label_set(vindr / "annotations", nih / "annotations", NIH_BOXES)
    for name in ("train", "val"):
        fold = nih / f"annotations/instances_{name}_fold0.json"
        shutil.copy(fold, nih / f"annotations/instances_{name}.json")
    shutil.copytree(vindr / "train", nih / "images", ignore=shutil.ignore_patterns("*.csv", "prepare.json"))
    for path in (root / "raw/nih_images").iterdir():
        shutil.copy(path, nih / "images")
    shutil.copytree(vindr / "train", root / "own/images")
    coco = json.loads((vindr / "annotations/instances_all.json").read_text())
    (root / "own/boxes.json").write_text(json.dumps({key: coco[key] for key in (
        "images", "annotations", "categories")}))


def _many(raw: Path) -> None:
    """The readers' table ten times with other ids: readers are compared on 50 images or more."""
    table = pd.read_csv(raw / "train.csv", dtype=str)
    pd.concat([table.assign(image_id=table["image_id"] + f"_{copy}") for copy in range(10)]).to_csv(
        raw / "many.csv", index=False)


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
    shutil.copytree(root / "raw/nih_images", root / "datasets/nih/images-small")
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
