"""A published data set to COCO JSON, folds by patient and labels of whole images; or to YOLO's folders.

    vindr-det convert nih-boxes --annotations raw/BBox_List_2017.csv \\
        --labels raw/Data_Entry_2017_v2020.csv --out datasets/nih/annotations --folds 5
    vindr-det convert vindr-cxr --annotations raw/annotations/annotations_train.csv \\
        --test-annotations raw/annotations/annotations_test.csv --images raw --out datasets/vindr-cxr/tables
    vindr-det convert coco --annotations some.json --images some/images --to yolo --out some_yolo

Writes labels.csv and folds.csv, and instances_all.json or, of a release in parts, instances_train.json,
instances_test.json; instances_train_fold{k}.json and instances_val_fold{k}.json; and instances_readers.json
where several readers drew. Boxes are in the original images' pixels, images without findings are kept. With
--to yolo: labels/, images/ and data.yaml, and beside them meta.csv, unknown.csv and readers.csv with what
YOLO's files cannot hold. docs/data.md has a table of the formats.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli
from vindr_det.data.conversion_options import FORMATS, add_options, convert_by_options

#: Names of COCO files that a detector is trained on, and of those that validate it, best first.
_TRAINING_AND_VALIDATION = (("train_fold0", "val_fold0"), ("train", "val"), ("train",), ("all",))


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    print(run(args))
    usual = Path(args.out).absolute().parent / ("train" if args.format == "vinbigdata" else "images")
    _say_next(Path(args.out), getattr(args, "images", None), usual)


def _say_next(out: Path, images: str | None, usual: Path) -> None:
    """To plan a detector, of the first fold where there are folds; else to train a classifier.

    Args:
        out: folder of the files.
        images: their folder; None where it was not given.
        usual: where configs look for them.
    """
    files = [[out / f"instances_{name}.json" for name in names] for names in _TRAINING_AND_VALIDATION]
    chosen = next((pair for pair in files if all(path.is_file() for path in pair)), None)
    if chosen and out.absolute().name == "annotations":  # where alone a config finds them
        elsewhere = images and Path(images).absolute() != usual
        cli.say_next("plan", "--annotations", chosen[0], *_options("--val", chosen[1:]),
                     *_options("--images", [images] if elsewhere else []), "--out", out / "planned.yaml")
    elif (out / "labels.csv").is_file():
        cli.say_next("train-classifier", "--config", "CONFIG.yaml", "DATA.LABELS", out / "labels.csv",
                     "DATA.IMAGES", images or "IMAGES")


def _options(name: str, values: Sequence[object]) -> list[object]:
    return [part for value in values for part in (name, value)]


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options of the command line."""
    parser = cli.parser(__doc__)
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    for name, (what, _) in FORMATS.items():
        add_options(formats.add_parser(name, help=what, description=what), name)
    return parser.parse_args(argv)


def run(args: Namespace) -> str:
    """Convert; returns a summary.

    Args:
        args: of :func:`parse`.

    Raises:
        InputError: bad input.
    """
    return convert_by_options(args)
