"""The options of ``vindr-det predict``."""

import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli
from vindr_det.exceptions import InputError

#: Where images that are named without --images are predicted to.
FIRST_OUT = "predictions/submission.csv"
#: Images that --pictures draws.
DRAWN = 8
#: A config's key, such as TEST.DETECTIONS_PER_IMAGE.
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")


def parse(text: str, argv: Sequence[str] | None = None) -> Namespace:
    """The options of a command line; ``also`` are files and folders beside ``images``.

    Args:
        text: of the help.
        argv: None takes the program's.
    """
    parser = _parser(text)
    args = parser.parse_intermixed_args(argv)
    _refuse_images_as_weights(parser, args.weights or ())
    named, args.opts = _split(args.opts)
    if named and args.images is not None:
        parser.error(f"--images {args.images} with {named[0]}: expected one of the two")
    if not named and args.out is None:
        parser.error("the following arguments are required: --out")
    args.out = FIRST_OUT if args.out is None else args.out
    args.pictures = args.pictures or bool(named)
    args.images, *args.also = named or [args.images]
    return args


def require_possible(args: Namespace) -> None:
    """Refuse options that contradict each other, and numbers out of range.

    Args:
        args: of :func:`parse`.

    Raises:
        InputError: the first of them.
    """
    from vindr_det.device import batch_size
    from vindr_det.shards.share import shard_of

    if args.limit < 0:
        raise InputError(f"--limit {args.limit}: expected 0 or more")
    batch_size(args.batch_size, "cpu")
    if args.shard:
        shard_of(args.shard)
    if args.dataset and (args.images or args.ids):
        raise InputError(f"--dataset {args.dataset}: names all images, expected no --images and no --ids")
    if args.ids and args.also:
        raise InputError(f"--ids {args.ids} with {args.images} and {args.also[0]}: expected one folder")
    _refuse_both(args, "shard", ("resume", "dask"))
    _refuse_both(args, "bundle", ("weights", "classifier", "gate"), ", a bundle has its own")


def _refuse_both(args: Namespace, name: str, others: Sequence[str], why: str = "") -> None:
    """Refuse an option together with one of the others."""
    given = [other for other in others if getattr(args, other)]
    if getattr(args, name) and given:
        raise InputError(f"--{name} {getattr(args, name)} with --{given[0]}: expected one of the two{why}")


def _refuse_images_as_weights(parser: ArgumentParser, weights: Sequence[str]) -> None:
    """Refuse what follows --weights, which takes all words up to the next option, and is no checkpoint."""
    for word in weights:
        if _is_key(word):
            parser.error(f"--weights {word}: is no checkpoint; give KEY VALUE after another option, such as "
                         "--out S.csv")
        if _is_image(Path(word)):
            parser.error(f"--weights {word}: is no checkpoint; give images before --weights or with --images")


def _is_key(word: str) -> bool:
    """Whether a word is a config's key, and neither a file nor the name of an image that is not there."""
    return bool(_KEY.fullmatch(word)) and not os.path.lexists(word) and not _is_named_as_image(Path(word))


def _is_named_as_image(path: Path) -> bool:
    from vindr_det.files import IMAGE_SUFFIXES, OTHER_PICTURES

    return path.suffix.lower() in (*IMAGE_SUFFIXES, *OTHER_PICTURES)


def _is_image(path: Path) -> bool:
    from vindr_det.files import is_dicom

    return _is_named_as_image(path) or path.is_dir() or (path.is_file() and is_dicom(path))


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images before the first key of a config, and what begins with it."""
    first = next((number for number, word in enumerate(words) if _is_key(word)), len(words))
    return list(words[:first]), list(words[first:])


def _parser(text: str) -> ArgumentParser:
    parser = cli.parser(text)
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
    parser.add_argument("--backend", choices=["torch", "onnx"], default="torch", help="onnx computes the "
                        "detectors' heavy parts in ONNX Runtime: on a CPU the same boxes, sooner")
    parser.add_argument("--half", action="store_true", help="compute in half precision (on a GPU)")
    parser.add_argument("--strict", action="store_true",
                        help="if any image failed, write the tables alone and exit 1")
    parser.add_argument("--shard", metavar="I/N", help="predict the I-th of N shares of the images into a "
                        "part beside --out; torchrun: take I and N from it")
    parser.add_argument("--resume", action="store_true", help="take the parts that are beside --out, "
                        "predict what is missing, and write all files")
    parser.add_argument("--dask", metavar="ADDRESS", help="as --resume, on this scheduler's Dask cluster")
    parser.add_argument("--pictures", action="store_true", help=f"draw the boxes of the first {DRAWN} "
                        "images into pictures/ beside --out")
    parser.add_argument("opts", type=str, nargs="*", metavar="IMAGES and KEY VALUE",
                        help="image files and folders; then changed keys of the checkpoint's config")
    return parser
