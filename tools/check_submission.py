#!/usr/bin/env python
"""List every fault of a submission with its row, and put right what is certain.

    python tools/check_submission.py submission.csv --sample sample_submission.csv --meta test_meta.csv
    python tools/check_submission.py submission.csv --sample S --meta M --fix mended.csv

--fix writes the header, line ends, empty lines, the order of the rows, class ids such as 3.0, repeated rows
and boxes, boxes over the image's edge and the box of class 14 as they should be, and lists the changes; what
nobody can know stays an error. Images with an empty string become "no finding"; they are counted first. Rows
are always those of the file that was given.
Exit 0: the file (with --fix: the new one) can be submitted; there may be notes. Exit 2: it has errors.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("submission", help="the CSV to check")
    parser.add_argument("--sample", help="sample_submission.csv: the ids that must be there")
    parser.add_argument("--meta", help="image_id,dim0,dim1 of the originals")
    parser.add_argument("--fix", metavar="OUT", help="write a mended file")
    args = parser.parse_args(argv)

    from vindr_det.exceptions import InputError
    from vindr_det.files import require_writable, write_together
    from vindr_det.imaging.sizes import read_sizes
    from vindr_det.imaging.status import FAILED, read_statuses, status_path, status_text
    from vindr_det.submission import parse_submission, repair_submission
    from vindr_det.submission.tables import inherited
    from vindr_det.tables import read_csv

    ids = None
    if args.sample:
        ids = read_csv(args.sample, ["image_id"], dtype={"image_id": str})["image_id"].tolist()
    sizes = read_sizes(args.meta) if args.meta else None
    if args.fix:
        require_writable(args.fix)
        repaired = repair_submission(args.submission, ids, sizes)
        if repaired.guess:
            print(f"note: {repaired.guess}")
        for change in repaired.changes:
            print(str(change).replace("note", "changed", 1))
        parsed = repaired.left
    else:
        parsed = parse_submission(args.submission, ids, sizes)
    for issue in parsed.issues:
        print(issue)
    errors = sum(issue.error for issue in parsed.issues)
    if errors:
        left = f" that cannot be put right; {args.fix} is not written" if args.fix else ", expected none"
        raise InputError(f"{args.submission}: {errors} errors{left}")
    if args.fix:
        told = read_statuses(args.submission)
        read = [i for i in parsed.predictions if i not in told or told[i].status != FAILED]
        table = status_path(args.fix)
        of_status = status_text(inherited(read, [told])) if told else None  # one of another file is removed
        write_together({Path(args.fix): repaired.text, table: of_status})
    boxes = sum(len(p.findings()) for p in parsed.predictions.values())
    normal = repaired.normal if args.fix else ()
    guessed = f", {len(normal)} images called normal for an empty string" if normal else ""
    print(f"ok: {len(parsed.predictions)} images, {boxes} boxes{guessed}")


if __name__ == "__main__":
    cli.run(main)
