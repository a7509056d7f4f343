"""Fuse prediction files: weighted boxes fusion (wbf), NMS, soft-NMS or non-maximum weighted (nmw).

    vindr-det fuse --predictions A.csv B.csv --meta test_meta.csv --out F.csv
    vindr-det fuse --predictions A.csv B.csv --meta M.csv --model-weights 2 1 --iou-thr 0.3 --out F.csv
    vindr-det fuse --predictions A.csv B.csv --meta test_meta.csv --tuned tuned.json --out F.csv

Boxes are in original pixels, whose sizes --meta has. A file that lacks an image counts as a model that
detected nothing there; a file whose status table (A.status.csv) lists the image as failed does not count
there. The files' class 14 is averaged. --tuned takes all options from vindr-det tune, and refuses images that
they were searched on.
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from vindr_det import cli

log = logging.getLogger(__name__)

#: Options of the fusion, as they are named in the command line -> in Fusion; --tuned decides all of them.
OPTIONS = {"method": "method", "iou_thr": "iou_thr", "skip_box_thr": "skip_box_thr", "conf_type": "conf_type",
           "model_weights": "weights", "max_boxes": "max_boxes"}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    fused, unread = run(args)

    from vindr_det.imaging.status import status_path

    boxes = sum(len(detections.findings()) for detections in fused.values())
    print(f"{args.out}: {len(fused)} images, {boxes} boxes from {len(args.predictions)} files, {len(unread)} "
          f"images that were not read; {status_path(args.out)}")
    cli.say_next("evaluate", "--predictions", args.out, "--annotations", args.annotations or "ANNOTATIONS")


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options of the command line."""
    return _parser().parse_args(argv)


def run(args: Namespace):
    """Fuse, and write all files.

    Args:
        args: of :func:`parse`.

    Returns:
        Image id -> :class:`vindr_det.structures.detections.Predictions` in original pixels, and the ids of
        the images that no model has read.

    Raises:
        InputError: bad input.
    """
    from vindr_det import submission
    from vindr_det.data.in_sample import refuse_in_sample
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.imaging.sizes import read_sizes, shapes_of
    from vindr_det.imaging.status import read_failed, read_statuses, status_path_of
    from vindr_det.postprocessing.fusion import fuse_all
    from vindr_det.submission.outputs import inherited, output_paths, require_all_writable, write_results

    require_all_writable(args.out)
    sources = [*args.predictions, *map(status_path_of, args.predictions), args.meta]
    require_apart(sources, *output_paths(args.out))
    _refuse_contradiction(_parser(), args)
    table = read_sizes(args.meta)
    files = [submission.read_submission(path, table, args.annotations) for path in args.predictions]
    options = _options(args)
    sizes = {image_id: size for image_id, size in shapes_of(table).items()
             if any(image_id in file for file in files)}
    if args.tuned and not args.allow_in_sample:
        refuse_in_sample(args.tuned, list(sizes))
    source_statuses = [read_statuses(path) for path in args.predictions]
    fused = fuse_all(files, sizes, options, args.workers, [read_failed(path) for path in args.predictions])
    statuses = inherited(fused, source_statuses)
    unread = [status.image_id for status in statuses if status.image_id not in fused]
    text = submission.submission_text(args.out, fused, sizes=table, unread=unread)
    write_results(args.out, fused, statuses, text)
    return fused, unread


def _parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", nargs="+", required=True, help="submissions, one per model")
    parser.add_argument("--meta", required=True, help="image_id,dim0,dim1 of the originals")
    cli.add_annotations_of_results(parser)
    parser.add_argument("--out", required=True, help="submission to write")
    parser.add_argument("--method", default="wbf", choices=["wbf", "nms", "soft-nms", "nmw"],
                        help="of the fusion")
    parser.add_argument("--iou-thr", type=float, default=0.4,
                        help="boxes of one class with a higher IoU are fused")
    parser.add_argument("--skip-box-thr", type=float, default=0.0001,
                        help="boxes with a lower score are left out")
    parser.add_argument("--conf-type", default="avg",
                        choices=["avg", "max", "box_and_model_avg", "absent_model_aware_avg"],
                        help="how wbf combines the scores of a cluster")
    parser.add_argument("--model-weights", type=float, nargs="+", metavar="W",
                        help="one per file; all the same if not given")
    parser.add_argument("--max-boxes", type=int, metavar="N",
                        help="keep the N boxes with the best scores per image; all if not given")
    parser.add_argument("--tuned", metavar="JSON", help="file of vindr-det tune, instead of these options")
    parser.add_argument("--allow-in-sample", action="store_true",
                        help="accept images that --tuned was searched on")
    cli.add_workers(parser)
    return parser


def _refuse_contradiction(parser: ArgumentParser, args: Namespace) -> None:
    from vindr_det.exceptions import InputError

    given = [name for name in OPTIONS if getattr(args, name) != parser.get_default(name)]
    if args.tuned and given:
        option = given[0].replace("_", "-")
        raise InputError(f"--{option} {getattr(args, given[0])} beside --tuned {args.tuned}, expected "
                         "one of the two")


def _options(args: Namespace):
    from vindr_det.postprocessing.fusion import Fusion
    from vindr_det.postprocessing.search_result import order_note, read_tuned

    if not args.tuned:
        options = {field: getattr(args, name) for name, field in OPTIONS.items()}
        return Fusion(**options | {"weights": tuple(args.model_weights) if args.model_weights else None})
    fusion = read_tuned(args.tuned, len(args.predictions))
    note = order_note(args.tuned, args.predictions)
    if note:
        log.info("%s", note)
    return fusion
