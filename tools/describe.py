#!/usr/bin/env python
"""A VinBigData table at a glance: classes, images, readers, agreement and co-occurrence.

    python tools/describe.py --annotations raw/train.csv --meta raw/train_meta.csv --out outputs/overview

Prints the tables and writes each as CSV, and six plots as PNG.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--annotations", required=True, help="train.csv (also .gz)")
    parser.add_argument("--meta", required=True, help="image_id,dim0,dim1 of the originals")
    parser.add_argument("--out", required=True, help="folder to create")
    args = parser.parse_args(argv)

    from pathlib import Path

    from vindr_det.data.statistics import as_text, describe, named_tables
    from vindr_det.data.statistics_plots import plot_overview
    from vindr_det.data.vinbigdata import read_data_set
    from vindr_det.tables import write_csv

    sizes, frame = read_data_set(args.annotations, args.meta)
    overview = describe(frame, sizes)
    for name, title, table in named_tables(overview):
        print(f"{title}\n{as_text(table)}\n")
        write_csv(Path(args.out) / f"{name}.csv", table.reset_index())
    plots = plot_overview(overview, args.out)
    print(f"{len(plots)} plots and the tables as CSV in {args.out}")


if __name__ == "__main__":
    cli.run(main)
