"""Write a run as one HTML page: scores, curves, errors, readers, classifier, training, data, and its cases.

    vindr-det report --run outputs/demo --out report.html
    vindr-det report --predictions S.csv --annotations test_annotations.csv --images DIR --out report.html
    vindr-det report --predictions S.csv --images DIR --out report.html
    vindr-det report --training outputs/vindr_frcnn --classifier outputs/vindr_binary --out report.html

The page is one file that loads nothing: it opens from a disk, in light and dark, on a phone, and prints. What
is not given is left out. --run takes the folder of train, train-classifier, evaluate --out or demo, and what
these commands leave there; other options count before it. The case browser shows images with true boxes,
predictions and, of a table with several readers, each reader's boxes as layers, by finding, outcome and
score; the address of a case can be shared. Of more images than --cases a part is shown, chosen so that each
type of error is among them, and the page says so. A page has at most 25 MB: pictures are made smaller until
they fit.

Metrics are those of vindr-det evaluate, with its intervals; --metrics shows its metrics.json where
predictions or annotations are not given. A page holds images and ids: who may see these may see it.
"""

import sys
from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", required=True, help="the page, a name that ends in .html")
    parser.add_argument("--run", help="folder of a run, whose files are taken where no option names others")
    parser.add_argument("--predictions", help="prediction file")
    parser.add_argument("--annotations", help="truth: COCO .json or VinBigData .csv")
    parser.add_argument("--images", help="folder of DICOM, PNG or JPEG files, or one file")
    parser.add_argument("--meta", help="original sizes: image_id,dim0,dim1")
    parser.add_argument("--metrics", help="metrics.json of vindr-det evaluate, where it is not computed here")
    parser.add_argument("--classifier", help="folder that vindr-det train-classifier wrote")
    parser.add_argument("--training", help="folder that vindr-det train wrote")
    parser.add_argument("--gate", help="JSON of vindr-det gate fit, or of vindr-det tune")
    parser.add_argument(
        "--ledger",
        nargs="+",
        default=[],
        metavar="CSV",
        help="tables of trials, ablations or folds, shown as they are",
    )
    parser.add_argument("--maps", help="folder of gray maps over whole images, such as Grad-CAM: "
                        "<image_id>.<label>.png")
    parser.add_argument("--patients", metavar="TABLE", help="table with image_id and patient: intervals draw "
                        "whole patients; single images if not given")
    parser.add_argument("--title", help="heading of the page; the run's name if not given")
    parser.add_argument(
        "--score",
        type=float,
        default=0.3,
        help="score from which on boxes are shown at first, and counted in the confusion matrix",
    )
    parser.add_argument("--cases", type=int, default=200, help="most images of the case browser; 0 for none")
    parser.add_argument("--side", type=int, default=1024, help="longest side of their pictures, pixels")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N",
                        help="bootstrap replicates for intervals; 0 for no intervals")
    cli.add_seed(parser, what="of replicates and of the choice of cases")
    cli.add_input_options(parser)
    args = parser.parse_args(argv)

    from vindr_det.report.build import write_report
    from vindr_det.report.request import ReportRequest

    written = write_report(ReportRequest(**{**vars(args), "ledger": tuple(args.ledger)}))
    cases = f"{written.cases} of {written.among} images" if written.cases else "no images"
    cases += f"; images without a file: {written.absent}" if written.absent else ""
    print(f"{', '.join(written.sections)}; {cases}")
    print(f"{args.out}: {written.bytes / 1e6:.1f} MB; open it in a browser", file=sys.stderr)
