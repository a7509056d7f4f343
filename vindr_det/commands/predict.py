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
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

from vindr_det import cli
from vindr_det.commands import predict_options
from vindr_det.commands.predict_options import DRAWN


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    written = _predict(args, print)[1]
    return _report(args, written) if written else 0


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options of the command line; ``args.also`` are files and folders beside ``args.images``."""
    return predict_options.parse(__doc__ or "", argv)


def run(args: Namespace):
    """Predict, and write all files.

    Args:
        args: of :func:`parse`.

    Returns:
        A :class:`vindr_det.prediction.FolderPredictions`, with the predictions of all images.

    Raises:
        InputError: bad input, or no image can be read.
    """
    from vindr_det.prediction import FolderPredictions

    outcomes: list = []
    images = _predict(args, keep=outcomes.append)[0]
    return FolderPredictions.of(outcomes, images)


def _predict(args: Namespace, show: Callable[[str], None] = lambda text: None, keep=None):
    """:func:`run`, of which only ``keep`` keeps the outcomes.

    Returns:
        The images, and what was written; None of a shard, which writes its part alone.
    """
    from vindr_det.parallel import start_early

    predict_options.require_possible(args)  # before torch is imported
    _require_files(args)
    start_early()  # a second, which would follow those that torch takes

    from vindr_det import prediction
    from vindr_det.data.in_sample import refuse_in_sample
    from vindr_det.detection.predictors import Changes, best_weights
    from vindr_det.device import batch_size
    from vindr_det.files import existing_file
    from vindr_det.imaging.inputs import require_apart
    from vindr_det.prediction_files import kept
    from vindr_det.prediction_models import read_gate
    from vindr_det.shards.options import parts_of, predict_on_dask, predict_shard
    from vindr_det.structures.label_sets import VINBIGDATA
    from vindr_det.submission.outputs import output_paths

    batch, changes, bundle = batch_size(args.batch_size, args.device), Changes(args.opts), _bundle(args)
    gate = read_gate(args.gate, args.classifier)
    weights = [] if bundle else [existing_file(path) for path in args.weights or [best_weights(args.config)]]
    images = _run(args, bundle or weights[0], changes)  # before anything slow: is there something to do?
    sources = [*images.sources, *weights, *(path for path in (args.meta, args.gate, args.ids) if path)]
    require_apart(sources, *output_paths(args.out), *([_pictures(args)] if args.pictures else []))
    if not args.shard and (failed := images.statuses_if_none_readable()):
        return images, _write(args, images, map(prediction.Outcome, failed), VINBIGDATA, show)
    if bundle and not args.allow_in_sample:
        bundle.refuse_in_sample(images.readable)
    elif args.gate and not args.allow_in_sample:
        refuse_in_sample(args.gate, images.readable)
    load = partial(_models, args, bundle, weights, gate, changes)
    with parts_of(args, bundle.digest if bundle else "", weights, batch) or nullcontext() as parts:
        if parts and args.shard:
            predict_shard(args, parts, images, load, batch)
            return images, None
        if parts and args.dask:
            predict_on_dask(args, parts, images, weights, batch, load_once)
        models = load()
        each = parts.outcomes if parts else prediction.predict_each
        outcomes = prediction.shown(each(images, models, batch, args.workers, args.allow_inverted), images)
        written = _write(args, images, kept(outcomes, keep) if keep else outcomes, models.label_set, show)
        if args.pictures:
            _draw(args, images, written)
        if parts and not (args.strict and written.failed):
            parts.remove()
    return images, written


@lru_cache(maxsize=1)
def load_once(options: str):
    """The models of a Dask worker, by options of :mod:`vindr_det.shards.options`; it predicts many tasks."""
    from vindr_det.detection.predictors import Changes
    from vindr_det.prediction_models import read_gate

    args = Namespace(**json.loads(options))
    weights, gate = list(map(Path, args.weights)), read_gate(args.gate, args.classifier)
    args.weights = None
    return _models(args, _bundle(args), weights, gate, Changes(args.opts))


def _require_files(args: Namespace) -> None:
    """Refuse gate, weights and images that are not there, and outputs that cannot be written."""
    from vindr_det.files import existing_file, require_writable
    from vindr_det.imaging.inputs import require_there
    from vindr_det.submission.outputs import require_all_writable

    require_all_writable(args.out)
    if args.pictures:
        require_writable(_pictures(args) / "index.html")
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

    return open_bundle(args.bundle)


def _run(args: Namespace, source, changes):
    """The images to predict: of a folder, or of a data set of ``source``, a checkpoint or a bundle, or those
    of them that --ids names."""
    from vindr_det.detection.predictors import images_of, images_of_config
    from vindr_det.imaging import image_run
    from vindr_det.imaging.choice import choice_of_ids

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
    """The images of several files and folders, in their order; of files by tables that are read once."""
    from vindr_det.imaging import image_run

    paths = [Path(path) for path in (args.images, *args.also)]
    files = iter(image_run.find_files([path for path in paths if not path.is_dir()], args.max_pixels,
                                      args.meta))
    return image_run.joined([image_run.find(path, args.recursive, args.max_pixels, args.meta)
                             if path.is_dir() else next(files) for path in paths]).first(args.limit)


def _models(args: Namespace, bundle, weights: Sequence[Path], gate, changes):
    """Detectors, with TTA where it is asked for, classifier, fusion and gate, of a bundle or checkpoints."""
    from vindr_det.prediction_models import adjusted, load_models

    engine = None if args.engine == "auto" else args.engine
    models = bundle.load(args.device, args.half, changes, engine).models if bundle else load_models(
        weights, args.classifier, gate, device=args.device, engine=engine, half=args.half, changes=changes)
    return adjusted(models, args.tta_scales or ((1.0,) if args.tta else ()), args.iou_thr, args.backend,
                    args.half)


def _write(
    args: Namespace, images, outcomes: Iterable, label_set, show: Callable[[str], None] = lambda text: None
):
    """Write all tables while the outcomes come; returns what was written."""
    from vindr_det.imaging import status
    from vindr_det.prediction_files import write

    table = status.status_path(args.out)
    written = write(args.out, outcomes, label_set, args.strict, images.of_unknown_size, DRAWN)
    _remove_pictures(args)
    show(status.summary(written.statuses))
    status.require_some_read(written.statuses, table)
    status.warn(written.statuses, table)
    return written


def _pictures(args: Namespace) -> Path:
    return Path(args.out).parent / "pictures"


def _remove_pictures(args: Namespace) -> None:
    """Remove the pictures of an earlier run, as its submission: none may be of an image that failed now."""
    if not (_pictures(args) / "index.html").is_file():
        return
    from vindr_det.evaluation.visualize import remove_overlays

    remove_overlays(_pictures(args), "" if args.pictures else args.out)


def _draw(args: Namespace, images, written) -> None:
    """Draw the boxes of the first images that were predicted; the index page has all that failed too."""
    from vindr_det.evaluation.visualize import Subject, failed, pictures, write_overlays

    statuses = {status.image_id: status for status in written.statuses}
    predictions = {outcome.status.image_id: outcome.prediction.gated for outcome in written.first}
    subjects = [Subject(source.image_id, source.path) for source in images.inputs
                if source.image_id in predictions]
    drawn = pictures(subjects, predictions, images.sizes, 0.3, statuses=statuses)
    write_overlays(_pictures(args), chain(drawn, failed(written.statuses)), args.out)


def _report(args: Namespace, written) -> int:
    """Print what was written; returns the exit status."""
    from vindr_det.imaging.status import status_path
    from vindr_det.structures.label_sets import VINBIGDATA
    from vindr_det.submission.coco_results import is_coco_results
    from vindr_det.submission.outputs import predictions_path, report_path

    count, failed, unknown = len(written.statuses), written.failed, written.in_file_pixels
    tables = f"{predictions_path(args.out)}, {report_path(args.out).name} and {status_path(args.out)}"
    if args.strict and failed:
        print(f"{args.out}: not written (--strict), since {failed} of {count} images were not read; "
              f"{tables} are")
        return 1
    kaggle = written.label_set == VINBIGDATA and not is_coco_results(args.out)
    as_what = 'are "no finding" for Kaggle alone' if kaggle else "have no entry"
    unread = f"; {failed} were NOT READ and {as_what}" if failed else ""
    whose = "1 image has its boxes in the file's pixels" if unknown == 1 else \
        f"{unknown} images have their boxes in the files' pixels"
    checked = f"NOT CHECKED, since {whose} (--meta)" if unknown else "checked"
    print(f"{args.out}: {count} images, {written.boxes} boxes, {checked}{unread}\n"
          f"{tables}: what was read and what was detected")
    if args.pictures:
        print(f"{_pictures(args) / 'index.html'}: pictures of the first {len(written.first)} "
              "images, boxes from score 0.3")
        return 0
    cli.say_next("visualize", "--images", args.images or "IMAGES", *["--recursive"] * args.recursive,
                 *(("--meta", args.meta) if args.meta else ()), "--predictions", args.out, "--out",
                 Path(args.out).parent / "pictures")
    return 0
