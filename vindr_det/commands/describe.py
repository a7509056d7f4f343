"""Annotations at a glance: boxes of a COCO JSON or of VinBigData's table, or labels of whole images.

    vindr-det describe --annotations annotations/instances_train.json --out outputs/overview
    vindr-det describe --annotations raw/train.csv --meta raw/train_meta.csv --out outputs/overview
    vindr-det describe --annotations raw/Data_Entry_2017_v2020.csv --out outputs/nih
    vindr-det describe --annotations train-small.csv --images images --out outputs/small

Of boxes: classes, images, readers, agreement and co-occurrence, sizes at each size of the images, and what a
config should be (vindr-det plan writes it). Of labels (NIH's table, or columns of 0 and
1 beside the image's name): labels, what occurs together, ages, sex, views, images and findings per patient;
with --images also the gray levels per label. Prints the tables and writes each as CSV, and plots as PNG.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vindr_det import cli
from vindr_det.shipped import CONFIGS

RECIPE = CONFIGS / "vindr_frcnn.yaml"


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--annotations", required=True, help="COCO .json, VinBigData's train.csv, "
                        "Data_Entry_2017*.csv or a table of 0/1 labels (also .gz)")
    parser.add_argument("--meta", help="train.csv: image_id,dim0,dim1 of the originals")
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--ids", nargs="+", metavar="NAME", help="labels: only these images; names, or "
                        "files with a name in each line")
    parser.add_argument("--images", help="folder of images: of labels, for the gray levels per label; of a "
                        "COCO .json, whose sizes limit that of the config")
    parser.add_argument("--sample", type=int, default=100, help="labels: images read per label")
    cli.add_seed(parser, what="of the sample")
    args = parser.parse_args(argv)

    from vindr_det.data.image_labels import has_image_labels
    from vindr_det.files import holds_json

    describe = _coco if holds_json(args.annotations) else (
        _labels if has_image_labels(args.annotations) else _boxes)
    tables, plots = describe(args)
    print(f"{len(plots)} plots and {tables} tables as CSV in {args.out}")
    if describe is _coco:
        images = ("--images", args.images) if args.images else ()
        cli.say_next("plan", "--annotations", args.annotations, *images, "--out",
                     Path(args.out) / "planned.yaml")


def _boxes(args: Any) -> tuple[int, list[Path]]:
    from vindr_det.data.statistics import describe
    from vindr_det.data.vinbigdata import read_data_set
    from vindr_det.exceptions import InputError

    if not args.meta:
        raise InputError(f"{args.annotations}: is a table of boxes, expected --meta with the images' sizes")
    for name in ("ids", "images"):
        if getattr(args, name):
            raise InputError(f"--{name}: is for tables of labels, but {args.annotations} is one of boxes")
    sizes, frame = read_data_set(args.annotations, args.meta)
    return _write_boxes(args, describe(frame, sizes))


def _coco(args: Any) -> tuple[int, list[Path]]:
    from vindr_det.data.coco import read_coco
    from vindr_det.data.fingerprint import measure_files, read_patients
    from vindr_det.data.statistics import describe_records
    from vindr_det.exceptions import InputError

    for name, value in (("ids", args.ids), ("meta", args.meta)):
        if value:
            raise InputError(f"--{name}: is for tables, but {args.annotations} is a COCO file")
    records = read_coco(args.annotations)
    overview = describe_records(records, read_patients(args.annotations), args.annotations)
    files = measure_files(records, args.images, args.annotations) if args.images else None
    return _write_boxes(args, overview, files)


def _write_boxes(args: Any, overview: Any, files: Any = None) -> tuple[int, list[Path]]:
    from vindr_det.config import load_yaml
    from vindr_det.data.statistics import named_tables
    from vindr_det.data.statistics_plots import plot_overview
    from vindr_det.detection.plan import Recipe, notes, plan
    from vindr_det.detection.plan_text import as_yaml, settings_table
    from vindr_det.tables import write_csv

    count = _write(args.out, named_tables(overview))
    plots = plot_overview(overview, args.out)
    if not len(overview.fingerprint.labels):
        return count, plots
    settings = plan(overview.fingerprint, Recipe.of(load_yaml(RECIPE)), files=files)
    write_csv(Path(args.out) / "config.csv", settings_table(settings))
    print(as_yaml(settings, [f"A config for it, over configs/{RECIPE.name} (vindr-det plan writes it):",
                             *notes(overview.fingerprint)]))
    return count + 1, plots


def _labels(args: Any) -> tuple[int, list[Path]]:
    from vindr_det.data.image_labels import read_image_labels
    from vindr_det.data.intensities import measure_intensities, plot_intensities
    from vindr_det.data.label_statistics import describe_labels, named_label_tables
    from vindr_det.data.label_statistics_plots import plot_label_overview
    from vindr_det.tables import read_names

    labels = read_image_labels(args.annotations)
    if args.ids:
        labels = labels.only(read_names(args.ids), "--ids")
    profiles = measure_intensities(labels, args.images, args.sample, args.seed) if args.images else None
    overview = describe_labels(labels)
    count, plots = _write(args.out, named_label_tables(overview)), plot_label_overview(overview, args.out)
    if profiles is None:
        return count, plots
    tables = [("intensities", "Gray levels of 20 to 250", profiles.table)]
    return count + _write(args.out, tables), [*plots, plot_intensities(profiles, args.out)]


def _write(out: str, tables: Iterable[tuple[str, str, Any]]) -> int:
    from vindr_det.data.statistics import as_text
    from vindr_det.tables import write_csv

    count = 0
    for name, title, table in tables:
        print(f"{title}\n{as_text(table)}\n")
        write_csv(Path(out) / f"{name}.csv", table.reset_index())
        count += 1
    return count
