"""Curves of a training of either engine or of the classifier, finished or still running, as one picture.

    vindr-det plot-training outputs/vindr_frcnn
    vindr-det plot-training outputs/nih_binary_effnet_b2 --out outputs/plots --smooth

Of a detector, from its metrics.json: training and validation loss (normal and abnormal images apart), the
loss's components, AP at IoU .4, AP per class over iterations and at the end, learning rate. Of a classifier,
from its fold<k>_history.csv: loss and AUC of training and of held-out images per fold (with several labels also their
median and range), and learning rate. Trainings write the same picture at their end, without --smooth.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("folder", metavar="OUTPUT_DIR", help="of vindr-det train or train_classifier.py")
    parser.add_argument("--out", help="folder for results.png; without it OUTPUT_DIR")
    parser.add_argument("--smooth", type=float, nargs="?", const=0.75, default=0.0, metavar="FACTOR",
                        help="moving average: weight of the values before, 0.75 if none is given; the values "
                        "themselves stay visible as faint lines")
    args = parser.parse_args(argv)

    from vindr_det.training.plots import plot_training

    print(plot_training(args.folder, args.out, args.smooth))
