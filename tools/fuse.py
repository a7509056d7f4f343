#!/usr/bin/env python
"""Fuse submissions: weighted boxes fusion, NMS, soft-NMS or non-maximum weighted.

    python tools/fuse.py --inputs A.csv B.csv --meta test_meta.csv --out F.csv
    python tools/fuse.py --inputs A.csv B.csv --meta test_meta.csv --weights 2 1 --iou-thr 0.3 --out F.csv
    python tools/fuse.py --inputs A.csv B.csv --meta test_meta.csv --tuned tuned.json --out F.csv

Boxes are in original pixels, whose sizes --meta tells. A file that lacks an image counts as a model that saw
nothing there; one whose status table (A.status.csv) says that an image was not read does not count there.
What the files say about class 14 is averaged. --tuned takes all options from tools/tune.py, and refuses
images that they were searched on.
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from vindr_det import cli

log = logging.getLogger(__name__)

#: What --tuned decides.
OPTIONS = ("method", "iou_thr", "skip_box_thr", "conf_type", "weights", "max_boxes")


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--inputs", nargs="+", required=True, help="submissions")
    parser.add_argument("--meta", required=True, help="image_id,dim0,dim1 of the originals")
    parser.add_argument("--out", required=True, help="submission to write")
    parser.add_argument("--method", default="wbf", choices=["wbf", "nms", "soft-nms", "nmw"])
    parser.add_argument("--iou-thr", type=float, default=0.4)
    parser.add_argument("--skip-box-thr", type=float, default=0.0001)
    parser.add_argument("--conf-type", default="avg",
                        choices=["avg", "max", "box_and_model_avg", "absent_model_aware_avg"],
                        help="how wbf makes one score of several")
    parser.add_argument("--weights", type=float, nargs="+", help="one per file")
    parser.add_argument("--max-boxes", type=int, help="keep the best so many of an image")
    parser.add_argument("--tuned", metavar="JSON", help="of tune.py, instead of these options")
    parser.add_argument("--allow-in-sample", action="store_true",
                        help="also images that --tuned was searched on")
    parser.add_argument("--workers", type=int, help="processes; default one per core")
    args = parser.parse_args(argv)

    from vindr_det import submission
    from vindr_det.data.in_sample import refuse_in_sample
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.imaging.sizes import read_sizes, shapes_of
    from vindr_det.imaging.status import read_failed, read_statuses, status_path
    from vindr_det.postprocessing.fusion import Fusion, fuse_all
    from vindr_det.postprocessing.search import order_note, read_tuned
    from vindr_det.submission.tables import inherited, require_all_writable, write_results, written

    require_all_writable(args.out)
    require_apart([*args.inputs, *map(status_path, args.inputs), args.meta], *written(args.out))
    _refuse_contradiction(parser, args)
    table = read_sizes(args.meta)
    sizes = shapes_of(table)
    files = [submission.read_submission(path, table) for path in args.inputs]
    options = read_tuned(args.tuned, len(files)) if args.tuned else Fusion(
        args.method, args.iou_thr, args.skip_box_thr, tuple(args.weights) if args.weights else None,
        args.conf_type, args.max_boxes)
    note = order_note(args.tuned, args.inputs) if args.tuned else ""
    if note:
        log.info("%s", note)
    known = {image_id: size for image_id, size in sizes.items() if any(image_id in file for file in files)}
    if args.tuned and not args.allow_in_sample:
        refuse_in_sample(args.tuned, list(known))
    told = [read_statuses(path) for path in args.inputs]
    fused = fuse_all(files, known, options, args.workers, [read_failed(path) for path in args.inputs])
    statuses = inherited(fused, told)
    unread = [status.image_id for status in statuses if status.image_id not in fused]
    text = submission.submission_text(args.out, fused, sizes=table, unread=unread)
    write_results(args.out, fused, statuses, text)
    boxes = sum(len(one.findings()) for one in fused.values())
    print(f"{args.out}: {len(fused)} images, {boxes} boxes from {len(files)} files, {len(unread)} images "
          f"that were not read; {status_path(args.out)}")


def _refuse_contradiction(parser: ArgumentParser, args: Namespace) -> None:
    from vindr_det.exceptions import InputError

    given = [name for name in OPTIONS if getattr(args, name) != parser.get_default(name)]
    if args.tuned and given:
        option = given[0].replace("_", "-")
        raise InputError(f"--{option} {getattr(args, given[0])} beside --tuned {args.tuned}, expected "
                         "one of the two")


if __name__ == "__main__":
    cli.run(main)
