"""Images to a checked submission, and to tables of what was read and what was detected.

    vindr-det predict x.dicom
    vindr-det predict --bundle phantom x.png
    vindr-det predict --out submission.csv
    vindr-det predict --weights outputs/vindr_frcnn/model_best.pth --images DIR --out S.csv
    vindr-det predict --weights A.pth B.pth --classifier outputs/classifier --images DIR --out S.csv
    vindr-det predict --weights A.pth --classifier outputs/classifier --gate gate.json --images DIR \\
        --out S.csv
    vindr-det predict --bundle my.bundle --images DIR --out S.csv
    vindr-det predict --weights A.pth --dataset vindr_val_fold0 --out val.csv
    vindr-det predict --weights A.pth --images DIR --ids some_ids.csv --out S.csv \\
        TEST.DETECTIONS_PER_IMAGE 300 MODEL.ROI_HEADS.SCORE_THRESH_TEST 0

Images that are named without --images, before any KEY VALUE, are predicted into predictions/submission.csv
if there is no --out, and pictures of the first 8 are drawn into pictures/ beside it, as with --pictures.

A checkpoint carries its config, classes and engine, so --weights is enough; several are fused. Without
--weights the best checkpoint of --config is taken, without --images the images of its DATASETS.TEST.
--bundle brings detectors, classifier, gate and fusion together: a folder or .zip file of vindr-det bundle,
hf://user/repo, or phantom, which ships with the package and has seen synthetic images alone.
--dataset takes exactly the images of a data set, such as the validation images that gate fit and tune
need. --gate refuses images that it was fitted on, --classifier one whose labels are inverted, judged by the
boxes. Boxes are in the originals' pixels: for images that were made smaller, --meta, or meta.csv or
<folder>_meta.csv in the folder or beside it, has the original sizes. KEY VALUE at the end changes keys of the
checkpoint's config that a training does not read: TEST.DETECTIONS_PER_IMAGE, keys that end in _TEST,
VINDR.DATA_ROOT, VINDR.IMAGE_ROOT.

S.csv is the competition's form where the checkpoint has VinBigData's label set; of any other set it is a
table with a row per box (image_id, label_set, class_name, score, x_min ... y_max). Beside S.csv are
S.predictions.csv (one row per box, with the DICOM's UIDs, status and reason), S.predictions.json (one object
per input, with the classifier's probabilities) and S.status.csv (one row per input: ok, flagged or failed,
and why). Nothing is known about an image that failed. Kaggle requires a row of it all the same,
and in its S.csv that row is "no finding": use S.csv for Kaggle alone. With --strict S.csv is not written
then. Exit status: 0; 1 with --strict if an image failed; 2 if all did.
"""

import json
import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from vindr_det import cli

#: Where images that are named without --images are predicted to.
FIRST_OUT = "predictions/submission.csv"
#: Images that --pictures draws.
_DRAWN = 8
#: A config's key, such as TEST.DETECTIONS_PER_IMAGE; no image.
_KEY = re.compile(r"(?!.*\.(DICOM|DCM|PNG|JPE?G)$)[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    result = run(args, print)
    return _report(args, result) if result else 0


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options of the command line; ``args.also`` are files and folders beside ``args.images``."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)
    named, args.opts = _split(args.opts)
    if named and args.images is not None:
        parser.error(f"--images {args.images} with {named[0]}: expected one of the two")
    if not named and args.out is None:
        parser.error("the following arguments are required: --out")
    args.out = FIRST_OUT if args.out is None else args.out
    args.pictures = args.pictures or bool(named)
    args.images, *args.also = named or [args.images]
    return args


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images before the first key of a config, and what begins with it."""
    first = next((number for number, word in enumerate(words)
                  if _KEY.fullmatch(word) and not os.path.lexists(word)), len(words))
    return list(words[:first]), list(words[first:])


def run(args: Namespace, show: Callable[[str], None] = lambda text: None):
    """Predict, and write all files.

    Args:
        args: of :func:`parse`.
        show: is called with the number of images that were read, flagged and failed, and the first reasons.

    Returns:
        A :class:`vindr_det.prediction.FolderPredictions`; None of a shard, which writes its part alone.

    Raises:
        InputError: bad input, or no image can be read.
    """
    from vindr_det.parallel import start_early

    _require_files(args)  # before torch is imported
    start_early()  # a second, which would follow those that torch takes

    from vindr_det import prediction
    from vindr_det.data.in_sample import refuse_in_sample
    from vindr_det.detection.predictors import Changes, best_weights
    from vindr_det.files import existing_file, require_writable
    from vindr_det.imaging import status
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.shards.options import parts_of, predict_on_dask, predict_shard
    from vindr_det.submission.outputs import output_paths, require_all_writable

    require_all_writable(args.out)
    if args.pictures:
        require_writable(_pictures(args) / "index.html")
    cli.require_workers(args.workers)
    batch, changes, bundle = _batch_size(args), Changes(args.opts), _bundle(args)
    gate = prediction.read_gate(args.gate, args.classifier)
    weights = [] if bundle else [existing_file(path) for path in args.weights or [best_weights(args.config)]]
    images = _run(args, bundle or weights[0], changes)  # before anything slow: is there something to do?
    sources = [*images.sources, *weights, *(path for path in (args.meta, args.gate, args.ids) if path)]
    require_apart(sources, *output_paths(args.out), *([_pictures(args)] if args.pictures else []))
    if not args.shard and (failed := images.statuses_if_none_readable()):
        return _write(args, prediction.FolderPredictions(statuses=failed))
    if bundle and not args.allow_in_sample:
        bundle.refuse_in_sample(images.readable)
    elif args.gate and not args.allow_in_sample:
        refuse_in_sample(args.gate, images.readable)
    load = partial(_models, args, bundle, weights, gate, changes)
    parts = parts_of(args, bundle.digest if bundle else "", weights, batch)
    if parts and args.shard:
        return predict_shard(args, parts, images, load, batch)
    if parts and args.dask:
        predict_on_dask(args, parts, images, weights, batch, load_once)
    result = prediction.predict(images, load(), batch, args.workers, args.allow_inverted,
                                parts.outcomes if parts else None)
    show(status.summary(result.statuses))
    _write(args, result)
    if args.pictures:
        _draw(args, images, result)
    if parts and not (args.strict and result.failed):
        parts.remove()
    return result


@lru_cache(maxsize=1)
def load_once(options: str):
    """The models of a Dask worker, by options of :mod:`vindr_det.shards.options`; it predicts many tasks."""
    from vindr_det.detection.predictors import Changes
    from vindr_det.prediction import read_gate

    args = Namespace(**json.loads(options))
    weights, gate = list(map(Path, args.weights)), read_gate(args.gate, args.classifier)
    args.weights = None
    return _models(args, _bundle(args), weights, gate, Changes(args.opts))


def _parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", help="submission to write, of label sets other than VinBigData's a table "
                        "with a row per box; COCO results if it ends in .json; "
                        f"{FIRST_OUT} if images are named without --images")
    parser.add_argument("--config", default="configs/vindr_frcnn.yaml",
                        help="of the best checkpoint and the test images")
    parser.add_argument("--weights", nargs="+", help="checkpoints or ONNX files; several are fused by WBF")
    parser.add_argument("--bundle", help="detectors, classifier, gate and fusion together: of vindr-det "
                        "bundle, hf://user/repo, or phantom")
    parser.add_argument("--engine", choices=["auto", "detectron2", "torchvision"], default="auto",
                        help="refuse weights of the other engine")
    cli.add_device(parser, "where the networks run")
    parser.add_argument("--images", help="folder of DICOM, PNG or JPEG files, or one file")
    parser.add_argument("--dataset", metavar="NAME",
                        help="predict exactly these images, such as vindr_val_fold0, below the checkpoint's "
                             "VINDR.DATA_ROOT")
    parser.add_argument("--ids", metavar="FILE",
                        help="predict these images alone: one id a line, or a CSV with image_id")
    parser.add_argument("--limit", type=int, default=0, metavar="N",
                        help="predict the first N images alone, for a quick look; 0 predicts all")
    cli.add_input_options(parser)
    parser.add_argument("--meta", help="image_id,dim0,dim1 of the originals")
    parser.add_argument("--classifier", help="folder that vindr-det train-classifier wrote")
    parser.add_argument("--gate", help="JSON of vindr-det gate fit; without it class 14 is appended")
    parser.add_argument("--allow-in-sample", action="store_true",
                        help="accept images that --gate was fitted on")
    parser.add_argument("--allow-inverted", action="store_true",
                        help="accept a classifier that contradicts the boxes")
    parser.add_argument("--iou-thr", type=float, help="of the fusion of several detectors; 0.4, or a "
                        "bundle's own, if not given")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation: mirrored images too")
    parser.add_argument("--tta-scales", type=float, nargs="+", metavar="F",
                        help="test-time augmentation: these factors of the test size, mirrored too")
    parser.add_argument("--batch-size", type=int,
                        help="images per call of a detector; 8 on a GPU and 1 on a CPU if not given")
    parser.add_argument("--half", action="store_true", help="compute in half precision (on a GPU)")
    parser.add_argument("--strict", action="store_true",
                        help="if any image failed, write the tables alone and exit 1")
    parser.add_argument("--shard", metavar="I/N", help="predict the I-th of N shares of the images into a "
                        "part beside --out; torchrun: take I and N from it")
    parser.add_argument("--resume", action="store_true", help="take the parts that are beside --out, "
                        "predict what is missing, and write all files")
    parser.add_argument("--dask", metavar="ADDRESS", help="as --resume, on this scheduler's Dask cluster")
    parser.add_argument("--pictures", action="store_true", help=f"draw the boxes of the first {_DRAWN} "
                        "images into pictures/ beside --out")
    parser.add_argument("opts", nargs="*", metavar="IMAGES and KEY VALUE", help="image files and folders; "
                        "then changed keys of the checkpoint's config")
    return parser


def _require_files(args: Namespace) -> None:
    """Refuse gate, weights and images that are not there."""
    from vindr_det.files import existing_file
    from vindr_det.imaging.inputs import require_there

    given = [*([args.gate] if args.gate else ()), *(args.weights or ())]
    for path in [] if args.bundle else given:
        existing_file(path)
    for path in [*([] if args.images is None else [args.images]), *args.also]:
        require_there(path)


def _bundle(args: Namespace):
    """The bundle of --bundle, not loaded yet, or None."""
    if not args.bundle:
        return None
    from vindr_det.bundle.read import open_bundle
    from vindr_det.exceptions import InputError

    if given := [name for name in ("weights", "classifier", "gate") if getattr(args, name)]:
        raise InputError(f"--bundle {args.bundle} with --{given[0]}: expected one of the two, a bundle "
                         "has its own")
    return open_bundle(args.bundle)


def _run(args: Namespace, source, changes):
    """The images to predict: of a folder, or of a data set of ``source``, a checkpoint or a bundle, or those
    of them that --ids names."""
    from vindr_det.detection.predictors import images_of, images_of_config
    from vindr_det.exceptions import InputError
    from vindr_det.imaging import image_run
    from vindr_det.imaging.choice import choice_of_ids

    if args.dataset and (args.images or args.ids):
        raise InputError(f"--dataset {args.dataset}: names all images, expected no --images and no --ids")
    if args.limit < 0:
        raise InputError(f"--limit {args.limit}: expected 0 or more")
    if args.also:
        return _of_several(args)
    images, choice = args.images, None
    if not images:
        images, choice = (images_of(source, args.dataset or "", changes) if isinstance(source, Path) else
                          images_of_config(source.config(), source.source, args.dataset or "", changes))
    if args.ids:
        choice = choice_of_ids(args.ids)
    return image_run.find(images, args.recursive, args.max_pixels, args.meta, choice).first(args.limit)


def _of_several(args: Namespace):
    """The images of several files and folders."""
    from vindr_det.exceptions import InputError
    from vindr_det.imaging import image_run

    if args.ids:
        raise InputError(f"--ids {args.ids} with {args.images} and {args.also[0]}: expected one folder")
    return image_run.joined([image_run.find(path, args.recursive, args.max_pixels, args.meta)
                             for path in [args.images, *args.also]]).first(args.limit)


def _batch_size(args: Namespace) -> int:
    from vindr_det.device import resolve_device
    from vindr_det.exceptions import InputError

    if args.batch_size is None:
        return 1 if resolve_device(args.device) == "cpu" else 8
    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: expected 1 or more")
    return args.batch_size


def _models(args: Namespace, bundle, weights: Sequence[Path], gate, changes):
    """Detectors, with TTA where it is asked for, classifier, fusion and gate, of a bundle or checkpoints."""
    from vindr_det.prediction import adjusted, load_models

    engine = None if args.engine == "auto" else args.engine
    models = bundle.load(args.device, args.half, changes, engine).models if bundle else load_models(
        weights, args.classifier, gate, device=args.device, engine=engine, half=args.half, changes=changes)
    return adjusted(models, args.tta_scales or ((1.0,) if args.tta else ()), args.iou_thr)


def _write(args: Namespace, result):
    """Write all tables, or none; a submission of an earlier run does not stay beside tables of this one."""
    from vindr_det.imaging import status
    from vindr_det.submission import submission_text
    from vindr_det.submission.outputs import write_results

    withheld = args.strict and result.failed
    text = None if withheld or not result.predictions else submission_text(
        args.out, result.predictions, [source.image_id for source in result.statuses], result.sizes,
        result.failed)
    write_results(args.out, result.predictions, result.statuses, text, result.probabilities)
    status.require_some_read(result.statuses, status.status_path(args.out))
    status.warn(result.statuses, status.status_path(args.out))
    return result


def _pictures(args: Namespace) -> Path:
    return Path(args.out).parent / "pictures"


def _draw(args: Namespace, images, result) -> None:
    """Draw the boxes of the first images that were predicted."""
    from vindr_det.evaluation.visualize import Subject, known_sizes, pictures, write_overlays

    statuses = {status.image_id: status for status in result.statuses}
    sizes = known_sizes(images.sizes, None)
    subjects = [Subject(source.image_id, source.path) for source in images.inputs
                if source.image_id in result.predictions][:_DRAWN]
    write_overlays(_pictures(args), pictures(subjects, result.predictions, sizes, 0.3, statuses=statuses))


def _report(args: Namespace, result) -> int:
    """Print what was written; returns the exit status."""
    from vindr_det.imaging.status import status_path
    from vindr_det.structures.detections import label_set_of
    from vindr_det.structures.label_sets import VINBIGDATA
    from vindr_det.submission.coco_results import is_coco_results
    from vindr_det.submission.outputs import predictions_path, report_path

    ids, failed = [source.image_id for source in result.statuses], len(result.failed)
    tables = f"{predictions_path(args.out)}, {report_path(args.out).name} and {status_path(args.out)}"
    if args.strict and failed:
        print(f"{args.out}: not written (--strict), since {failed} of {len(ids)} images were not read; "
              f"{tables} are")
        return 1
    boxes = sum(len(detections.findings()) for detections in result.predictions.values())
    kaggle = label_set_of(result.predictions) == VINBIGDATA and not is_coco_results(args.out)
    as_what = 'are "no finding" for Kaggle alone' if kaggle else "have no entry"
    unread = f"; {failed} were NOT READ and {as_what}" if failed else ""
    unknown = [image_id for image_id in result.unknown_size if image_id in result.predictions
               and len(result.predictions[image_id].findings())]
    whose = "1 image has its boxes in the file's pixels" if len(unknown) == 1 else \
        f"{len(unknown)} images have their boxes in the files' pixels"
    checked = f"NOT CHECKED, since {whose} (--meta)" if unknown else "checked"
    print(f"{args.out}: {len(ids)} images, {boxes} boxes, {checked}{unread}\n"
          f"{tables}: what was read and what was detected")
    if args.pictures:
        print(f"{_pictures(args) / 'index.html'}: pictures of the first {min(len(ids) - failed, _DRAWN)} "
              "images, boxes from score 0.3")
    cli.say_next("visualize", "--images", args.images or "IMAGES", *["--recursive"] * args.recursive,
                 *(("--meta", args.meta) if args.meta else ()), "--predictions", args.out, "--out",
                 Path(args.out).parent / "pictures")
    return 0
