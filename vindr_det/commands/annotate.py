"""Boxes to an annotation tool, for radiologists to correct, and back: Label Studio, CVAT, FiftyOne.

    vindr-det annotate to label-studio --predictions S.csv --images DIR --score 0.2 --out TASKS
    vindr-det annotate to cvat --annotations A.json --images DIR --out TASKS
    vindr-det annotate from label-studio --exported export.json --tasks TASKS --out corrected.json

"to" writes a picture per image and the tool's own files: label-studio tasks.json with predictions and
labels.xml; cvat annotations.xml (CVAT for images 1.1) and labels.json; fiftyone a COCODetectionDataset.
Pictures have numbers for names; images.json says which image each is of. "from" reads what the tool exported
and writes COCO JSON in the originals' pixels, which every command takes for truth. Images that nobody
annotated are left out, also those that have the boxes that the tool was given and were not marked as
reviewed; an annotated image without boxes is one without findings.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from vindr_det import cli

_TOOLS = ("label-studio", "cvat", "fiftyone")


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    (_to if args.way == "to" else _from)(args)


def _parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    ways = parser.add_subparsers(dest="way", required=True, help="direction")
    to = ways.add_parser("to", help="write the tasks of a tool")
    to.add_argument("tool", choices=_TOOLS, help="the annotation tool")
    boxes = to.add_mutually_exclusive_group(required=True)
    boxes.add_argument("--predictions", help="prediction file, whose boxes are to be corrected")
    boxes.add_argument("--annotations", help="truth instead: COCO .json or VinBigData .csv")
    to.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files, or one file")
    to.add_argument("--meta", help="original sizes of images that were made smaller")
    to.add_argument("--score", type=float, default=0.1, help="leave predictions below it out")
    to.add_argument("--longest", type=int, default=0, help="longest side of the pictures; 0 keeps it")
    to.add_argument("--out", required=True, help="a new folder")
    cli.add_input_options(to)
    back = ways.add_parser("from", help="read what a tool exported")
    back.add_argument("tool", choices=_TOOLS, help="the annotation tool")
    back.add_argument("--exported", required=True, help="the tool's file: Label Studio's JSON, CVAT's "
                      "annotations.xml, FiftyOne's labels.json")
    back.add_argument("--tasks", required=True, help="the folder that was given to the tool")
    back.add_argument("--accept-untouched", action="store_true", help="take images as they are where nothing "
                      "tells that somebody looked at them, instead of leaving them out")
    back.add_argument("--out", required=True, help="COCO .json to write")
    return parser


def _to(args: Namespace) -> None:
    from vindr_det.annotation_tools.exchange import from_score, write_tasks
    from vindr_det.data.truth import read_truth
    from vindr_det.exceptions import InputError
    from vindr_det.imaging import image_run, status
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.structures.records import truth_of
    from vindr_det.submission import read_submission

    for name, value, most in (("score", args.score, 1), ("longest", args.longest, 2**15)):
        if not 0 <= value <= most:
            raise InputError(f"--{name} {value}: expected 0 to {most}")
    boxes = truth_of(read_truth(args.annotations)) if args.annotations else from_score(
        read_submission(args.predictions), args.score)
    run = image_run.find(args.images, args.recursive, args.max_pixels, args.meta)
    require_apart(run.sources, args.out)
    tasks, statuses = write_tasks(args.tool, args.out, run, boxes, args.longest, args.workers)
    print(status.summary(statuses))
    print(f"{args.out}: {len(tasks)} images with {sum(len(task.boxes) for task in tasks)} boxes for "
          f"{args.tool}")
    cli.say_next("annotate", "from", args.tool, "--exported", "EXPORTED", "--tasks", args.out, "--out",
                 "corrected.json")


def _from(args: Namespace) -> None:
    from vindr_det.annotation_tools import read_corrected
    from vindr_det.data.coco import to_coco
    from vindr_det.files import require_writable, write_json
    from vindr_det.imaging.inputs import require_apart

    require_apart([args.exported], args.out)
    require_writable(args.out)
    records, label_set = read_corrected(args.tool, args.exported, args.tasks, args.accept_untouched)
    write_json(args.out, to_coco(records, label_set))
    normal = sum(record.normal for record in records)
    print(f"{args.out}: {len(records)} images, {sum(len(record.truth) for record in records)} boxes of "
          f"{label_set.name}, {normal} images without boxes")
