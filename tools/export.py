#!/usr/bin/env python
"""A detector of the torchvision engine as an ONNX file, compared with itself.

    python tools/export.py --weights outputs/vindr_fcos/model_best.pth --out model.onnx --images DIR
    python tools/predict.py --weights model.onnx --images DIR --out S.csv

The file is run with onnxruntime on up to --num-images images of the folder (without --images on a synthetic
one) and must find what the checkpoint finds; how much was compared is printed. Its input and outputs are
described in vindr_det/detection/torchvision/onnx.py. Needs pip install 'vindr_det[export]'.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--weights", required=True, help="checkpoint of the torchvision engine")
    parser.add_argument("--out", required=True, help="ONNX file to write")
    parser.add_argument("--images", help="folder of DICOM, PNG or JPEG files to check with")
    parser.add_argument("--num-images", type=int, default=20)
    args = parser.parse_args(argv)

    from vindr_det.detection.loading import load_checkpoint
    from vindr_det.detection.torchvision import onnx as onnx_file
    from vindr_det.detection.torchvision import onnx_check
    from vindr_det.files import atomic_path, require_writable

    require_writable(args.out)
    images = onnx_check.images_of(args.images, args.num_images)
    checkpoint = load_checkpoint(args.weights, "torchvision")
    with atomic_path(Path(args.out)) as temporary:  # nothing is there until it is checked
        onnx_file.export(checkpoint, temporary)
        result = onnx_check.compare(checkpoint, temporary, images)
    megabytes = Path(args.out).stat().st_size / 1e6
    print(f"{args.out}: {megabytes:.0f} MB; {result}")


if __name__ == "__main__":
    cli.run(main)
