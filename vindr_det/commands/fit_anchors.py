"""Fit anchors to the boxes of a data set, and compare them with those of a config.

    vindr-det fit-anchors --annotations datasets/vindr/annotations/instances_all.json \\
        --config configs/vindr_frcnn.yaml

Prints MODEL.ANCHOR_GENERATOR for the YAML, and the mean best IoU of both sets with the boxes at test size.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--annotations", required=True, help="COCO .json of the boxes")
    parser.add_argument("--config", required=True, help="the detector's YAML")
    parser.add_argument("--levels", type=int, default=5, help="sizes, one per pyramid level")
    parser.add_argument("--ratios", type=int, default=3, help="number of aspect ratios")
    parser.add_argument("opts", type=str, nargs="*", metavar="KEY VALUE", help="override keys of the config")
    args = parser.parse_intermixed_args(argv)

    from vindr_det.data.coco import read_coco
    from vindr_det.detection import anchors
    from vindr_det.detection.loading import load_config
    from vindr_det.exceptions import InputError

    if min(args.levels, args.ratios) < 1:
        raise InputError(f"--levels {args.levels} --ratios {args.ratios}: expected at least 1 each")
    cfg = load_config(args.config, "torchvision", args.opts)
    shapes = anchors.box_shapes(read_coco(args.annotations), cfg)
    fitted = anchors.fit(shapes, args.levels, args.ratios)
    keys = {"SIZES": [[round(size)] for size in fitted.sizes],
            "ASPECT_RATIOS": [[round(ratio, 2) for ratio in fitted.ratios]]}
    print("MODEL:\n  ANCHOR_GENERATOR:")
    for key, values in keys.items():
        print(f"    {key}: {values}")
    for name, chosen in (("the config's", anchors.from_config(cfg)), ("fitted", [fitted])):
        overlaps = anchors.best_overlaps(shapes, chosen)
        print(f"{name}: mean best IoU {overlaps.mean():.3f}, over .5 for {(overlaps > 0.5).mean():.1%}"
              f" of {len(shapes)} boxes")
    cli.say_next("train", "--config", args.config, *args.opts, *(
        text for key, values in keys.items() for text in (f"MODEL.ANCHOR_GENERATOR.{key}", values)))
