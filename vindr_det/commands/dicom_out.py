"""Predictions to DICOM objects that reach a PACS.

    vindr-det predict --bundle my.bundle --images archive --recursive --out S.csv
    vindr-det dicom-out --predictions S.predictions.json --images archive --out answers
    storescu -aec PACS pacs.hospital 104 answers/*.dcm

Of each image: ID.sc.dcm, a secondary capture with the boxes burned in, which every viewer shows; ID.sr.dcm,
a structured report (TID 1500) with a coded finding, its score and the box for each; ID.pr.dcm, a presentation
state that lays the boxes over the original. They are of the image's patient and study, each kind in a series
of its own, and refer to the image by its UIDs. The same S.predictions.json gives the same objects, so that
sending them again adds nothing; a copy with another time of change gives others.

An image that was not read has a report alone, which says so, whatever --kinds are. An image without Study,
Series or SOP Instance UID has no answer: objects.csv has a row for each image, with what was written or why
not. Exit status: 0; 2 if no image has an answer. Research and teaching only, as each object says.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> int:
    run(parse(argv))
    return 0


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options of the command line."""
    return _parser().parse_args(argv)


def run(args: Namespace) -> int:
    """Write the objects; returns the number of images that have some.

    Raises:
        InputError: bad input, a missing library, or no image has an answer.
    """
    from vindr_det.pacs.answer import Algorithm, require_algorithm, require_score
    from vindr_det.pacs.libraries import require_libraries

    algorithm = Algorithm(args.algorithm, args.algorithm_version)
    require_score(args.score)
    require_algorithm(algorithm)
    require_libraries("highdicom")
    from vindr_det.pacs.folder import write_answers

    return write_answers(args.predictions, args.images, args.out, args.kinds, args.score,
                         algorithm)


def _parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", required=True, help="S.predictions.json of vindr-det predict")
    parser.add_argument("--images", required=True, help="the folder, or file, that was predicted")
    parser.add_argument("--out", required=True, help="folder for the objects")
    add_answer_options(parser)
    add_algorithm_options(parser)
    return parser


def add_answer_options(parser: ArgumentParser) -> None:
    """What an answer tells, and in which objects."""
    parser.add_argument("--kinds", nargs="+", choices=["sc", "sr", "pr"], default=["sc", "sr", "pr"],
                        help="objects: secondary capture, structured report, presentation state; an image "
                        "of which none of these can be made has a report")
    parser.add_argument("--score", type=float, default=0.3, help="leave out boxes with a lower score")


def add_algorithm_options(parser: ArgumentParser) -> None:
    """What found the boxes, as the objects name it."""
    from vindr_det import __version__

    parser.add_argument("--algorithm", default="vindr_det", help="name of the model")
    parser.add_argument("--algorithm-version", default=__version__, help="its version")
