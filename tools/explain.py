#!/usr/bin/env python
"""Where a classifier looks: an overlay a label beside each image, as one PNG an image.

    python tools/explain.py --model outputs/nih_multilabel_densenet121 --images DIR --out DIR

Grad-CAM of the likeliest labels (--top, or --labels by name), mean over the folds. A map shows where a score
comes from, not where a finding ends: boxes are the detector's.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", required=True, help="folder that train_classifier.py wrote")
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files")
    parser.add_argument("--out", required=True, help="folder for <image_id>.png")
    parser.add_argument("--top", type=int, default=3, help="how many labels")
    parser.add_argument("--labels", nargs="+", metavar="P_LABEL", help="these columns instead")
    parser.add_argument("--count", type=int, default=20, help="how many images")
    args = parser.parse_args(argv)

    import cv2
    from tqdm import tqdm

    from vindr_det.classification.explain import Explainer
    from vindr_det.classification.model import Classifier
    from vindr_det.errors import InputError
    from vindr_det.files import atomic_path, list_images
    from vindr_det.images import read_image

    classifier, out = Classifier(args.model), Path(args.out)
    explainer = Explainer(classifier)
    unknown = sorted(set(args.labels or ()).difference(classifier.columns))
    if unknown:
        raise InputError(f"--labels {unknown[0]}: expected some of {', '.join(classifier.columns)}")
    chosen = [classifier.columns.index(name) for name in args.labels or ()]
    paths = list(list_images(args.images).items())[: args.count]
    out.mkdir(parents=True, exist_ok=True)
    for image_id, path in tqdm(paths, desc="explain", unit="image", disable=None):
        image = read_image(path).pixels
        picture = explainer.sheet(image, chosen, args.top)
        with atomic_path(out / f"{image_id}.png") as temporary:
            temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    print(f"{out}: {len(paths)} pictures")


if __name__ == "__main__":
    cli.run(main)
