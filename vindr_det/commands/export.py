"""Export a detector of the torchvision engine as an ONNX file, and check the file.

    vindr-det export --weights outputs/vindr_fcos/model_best.pth --out model.onnx --images DIR
    vindr-det predict --weights model.onnx --images DIR --out S.csv

onnxruntime runs the file on up to --num-images images and must find what the checkpoint finds; how much was
compared is printed. vindr_det/detection/torchvision/onnx.py describes its input and outputs. Needs
pip install onnx onnxruntime.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--weights", required=True, help="the detector's checkpoint (torchvision engine)")
    parser.add_argument("--out", required=True, help="ONNX file to write")
    parser.add_argument("--images", help="folder of DICOM, PNG or JPEG files, or a file, to check with; "
                        "a synthetic radiograph without it")
    parser.add_argument("--num-images", type=int, default=20, help="check with so many images at most")
    cli.add_device(parser, "where the checkpoint runs for the check")
    args = parser.parse_args(argv)

    from vindr_det.detection.engine import check_device
    from vindr_det.detection.loading import load_checkpoint
    from vindr_det.detection.torchvision import onnx
    from vindr_det.device import resolve_device
    from vindr_det.files import atomic_path, require_writable
    from vindr_det.training.checkpoint_io import weights_of

    require_writable(args.out)
    images = onnx.images_of(args.images, args.num_images)
    checkpoint = load_checkpoint(args.weights, "torchvision")
    checkpoint.cfg.MODEL.DEVICE = resolve_device(args.device)
    check_device(checkpoint.cfg)
    with atomic_path(Path(args.out)) as temporary:  # --out stays as it is until the file is checked
        with weights_of(args.weights):
            onnx.export(checkpoint, temporary)
        result = onnx.compare(checkpoint, temporary, images)
    megabytes = Path(args.out).stat().st_size / 1e6
    print(f"{args.out}: {megabytes:.0f} MB; {result}")
    cli.say_next("predict", "--weights", args.out, "--images", args.images or "IMAGES", "--out",
                 "submission.csv")
