"""Check tables of labels for leaks: images or patients that two of them share.

    vindr-det check-leaks train.csv valid.csv test.csv
    vindr-det check-leaks train.csv valid.csv test.csv --out DIR

Prints the number of shared patients and images of each pair of tables, and the first three of each. The
exit status is 2 where there are any. --out writes the tables without leaks, under their names: from what is
trained on to what is tested on, the last table keeps all its rows and each other one loses those that a later
one has, and the exit status is 0.
DATA.ON_LEAK drop does the same within a training. A table needs a column of images (image_id, Image, Image
Index) and, for patients, one such as patient, PatientId or Patient ID; without it a warning says that their
leaks cannot be seen.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("tables", nargs="+", type=Path, help="CSV files, from training to test")
    parser.add_argument("--out", type=Path, help="folder for the tables without leaks")
    args = parser.parse_args(argv)

    from vindr_det.classification import leaks
    from vindr_det.classification.label_table import read_identities

    if len(set(args.tables)) < len(args.tables) or len(args.tables) < 2:
        parser.error("expected two tables or more, each once")
    parts = {str(path): read_identities(path) for path in args.tables}
    leaks.warn_of_unknown_patients(parts)
    overlaps = leaks.find_overlaps(parts)
    print(leaks.report(overlaps) if overlaps else f"no leaks between {len(parts)} tables")
    if args.out:
        leaks.write_without(parts, args.out)
        cli.say_next("train-classifier", "--config", "CONFIG.yaml", "DATA.LABELS",
                     args.out / args.tables[0].name)
    else:
        leaks.refuse(overlaps, "--out DIR writes the tables without them")
