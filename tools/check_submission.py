#!/usr/bin/env python
"""List every fault of a submission with its row.

    python tools/check_submission.py submission.csv --sample sample_submission.csv --meta test_meta.csv

Exit 0: the file can be submitted (there may be notes). Exit 2: it has errors.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("submission", help="the CSV to check")
    parser.add_argument("--sample", help="sample_submission.csv: the ids that must be there")
    parser.add_argument("--meta", help="image_id,dim0,dim1 of the originals")
    args = parser.parse_args(argv)

    from vindr_det.annotations import read_sizes
    from vindr_det.errors import InputError
    from vindr_det.files import read_csv
    from vindr_det.submission import parse_submission

    ids = None
    if args.sample:
        ids = read_csv(args.sample, ["image_id"], dtype={"image_id": str})["image_id"].tolist()
    sizes = read_sizes(args.meta) if args.meta else None
    parsed = parse_submission(args.submission, ids, sizes)
    for fault in parsed.faults:
        print(fault)
    errors = sum(fault.error for fault in parsed.faults)
    if errors:
        raise InputError(f"{args.submission}: {errors} errors, expected none")
    boxes = sum(len(p.findings()) for p in parsed.predictions.values())
    print(f"ok: {len(parsed.predictions)} images, {boxes} boxes")


if __name__ == "__main__":
    cli.run(main)
