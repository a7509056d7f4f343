"""List every issue of a submission with its row, and repair those with one certain meaning.

    vindr-det check-submission submission.csv --sample sample_submission.csv --meta test_meta.csv
    vindr-det check-submission submission.csv --sample S --meta M --fix repaired.csv

--fix repairs the header, line ends, empty lines, the order of the rows, class ids such as 3.0, repeated rows
and boxes, boxes over the image's edge and the box of class 14, and lists the changes; anything else stays an
error. Images with an empty string become "no finding"; they are counted first. Rows are always those of the
file that was given.
Exit 0: the file (with --fix: the new one) can be submitted; there may be notes. Exit 2: it has errors.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("submission", help="the CSV to check")
    parser.add_argument("--sample", help="sample_submission.csv with the required image ids")
    parser.add_argument("--meta", help="image_id,dim0,dim1 of the originals")
    parser.add_argument("--fix", metavar="OUT", help="repaired file to write")
    args = parser.parse_args(argv)

    from vindr_det.exceptions import InputError
    from vindr_det.files import require_writable
    from vindr_det.imaging.sizes import read_sizes
    from vindr_det.imaging.status import FAILED, read_statuses, status_path, status_text
    from vindr_det.spool import write_together
    from vindr_det.submission import parse_submission, repair_submission
    from vindr_det.submission.check import frame_issues
    from vindr_det.submission.outputs import inherited
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
    statuses = read_statuses(args.submission)
    if sizes is not None:
        parsed.issues += frame_issues(statuses, sizes)
    for issue in parsed.issues:
        print(issue)
    errors = sum(issue.error for issue in parsed.issues)
    if errors:
        left = f" that cannot be repaired; {args.fix} is not written" if args.fix else ", expected none"
        raise InputError(f"{args.submission}: {errors} errors{left}")
    if args.fix:
        read = [image_id for image_id in parsed.predictions
                if image_id not in statuses or statuses[image_id].status != FAILED]
        # Without a status table of this file, one of another file is removed.
        table = status_text(inherited(read, [statuses])) if statuses else None
        write_together({Path(args.fix): repaired.text, status_path(args.fix): table})
    boxes = sum(len(detections.findings()) for detections in parsed.predictions.values())
    normal = repaired.normal if args.fix else ()
    guessed = f", {len(normal)} images with an empty string became no finding" if normal else ""
    if sizes is None:
        print("note: without --meta boxes are not checked against the images' sizes")
    print(f"ok: {len(parsed.predictions)} images, {boxes} boxes{guessed}")
