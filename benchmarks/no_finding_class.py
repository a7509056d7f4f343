#!/usr/bin/env python
""""No finding" as a fifteenth class of the detector, against 1 - the best score of the fourteen.

    python benchmarks/no_finding_class.py --demo outputs/demo --out outputs/no_finding_class

Trains the demo's detector twice on its phantoms, where only the classes differ: the same seed, half as many
normal images as abnormal ones, 160 px. With the fifteenth class a normal image has a box around all of it;
that is a patch of the torchvision engine that is here alone. Both are scored on the demo's test images,
with paired intervals. Existing models are kept.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from vindr_det import cli
from vindr_det.data.coco import read_coco, to_coco
from vindr_det.data.truth import read_truth
from vindr_det.detection.loading import load_config
from vindr_det.detection.torchvision import data, engine
from vindr_det.files import write_json
from vindr_det.imaging.image_run import find
from vindr_det.imaging.read import read_image
from vindr_det.metrics.bootstrap import image_bootstrap
from vindr_det.metrics.intervals import Difference
from vindr_det.metrics.voc import mean_ap, vindr_ap
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, no_finding, with_no_finding
from vindr_det.structures.label_sets import NO_FINDING_ID, VINBIGDATA, LabelSet
from vindr_det.structures.records import truth_of

FIFTEEN = LabelSet("15 classes", (*VINBIGDATA.findings, "Normal image"))
CONFIG = Path(__file__).resolve().parent.parent / "configs/demo/vindr_frcnn_demo.yaml"
SETTINGS = ["DATASETS.TRAIN", "('vindr_all',)", "VINDR.VALIDATION", "()", "VINDR.NORMAL_RATIO", "0.5",
            "VINDR.IMAGE_SIZE", "192", "INPUT.MIN_SIZE_TRAIN", "(160,)", "INPUT.MIN_SIZE_TEST", "160",
            "INPUT.MAX_SIZE_TRAIN", "224", "INPUT.MAX_SIZE_TEST", "224", "SOLVER.CHECKPOINT_PERIOD", "10000"]


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--demo", type=Path, default=Path("outputs/demo"), help="folder of vindr-det demo")
    parser.add_argument("--out", type=Path, default=Path("outputs/no_finding_class"), help="folder to create")
    parser.add_argument("--iterations", type=int, default=240, help="of each training")
    parser.add_argument("--seed", type=int, default=1, help="of the trainings")
    args = parser.parse_args()
    fourteen = detections(args, VINBIGDATA, args.demo / "data")
    fifteen = detections(args, FIFTEEN, add_class(args.demo, args.out / "data"))
    report(args.demo, {
        "14 classes, 1 - best score": with_no_finding(fourteen),
        "15 classes, score of the 15th": {key: own_no_finding(value) for key, value in fifteen.items()},
        "15 classes, 1 - best score": with_no_finding(fifteen)})


def add_class(demo: Path, root: Path) -> Path:
    """Annotations with 15 classes, and a patch of the torchvision engine: a normal image gets a box of the
    fifteenth around it. The annotations lack that box, so that an epoch still draws normal images."""
    records = read_coco(demo / "data/annotations/instances_all.json")
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    write_json(root / "annotations/instances_all.json", to_coco(
        [replace(record, truth=replace(record.truth, label_set=FIFTEEN)) for record in records]))
    plain = data.RecordDataset.__getitem__

    def item(self: data.RecordDataset, key: Any) -> Any:
        image, target, image_id = plain(self, key)
        if not len(target["boxes"]):
            height, width = image.shape[1:]
            target |= {"boxes": torch.tensor([[0.0, 0.0, width, height]]), "weights": torch.ones(1),
                       "labels": torch.tensor([NO_FINDING_ID + self.first_label])}
        return image, target, image_id

    data.RecordDataset.__getitem__ = item  # type: ignore[method-assign]
    return root


def detections(args: argparse.Namespace, label_set: LabelSet, root: Path) -> dict[str, Predictions]:
    """Train, unless the model is there, and predict the demo's test images, in original pixels."""
    out = args.out / f"{len(label_set)}_{args.seed}"
    cfg = load_config(CONFIG, "torchvision", [
        *SETTINGS, "VINDR.DATA_ROOT", str(root), "VINDR.IMAGE_ROOT", str(args.demo / "data"),
        "OUTPUT_DIR", str(out), "SEED", str(args.seed), "SOLVER.MAX_ITER", str(args.iterations),
        "VINDR.LABEL_SET", label_set.name, "VINDR.FINDINGS", repr(label_set.findings)])
    if not (out / "model_final.pth").is_file():
        engine.train(cfg)
    predictor, result = engine.build_predictor(cfg, torch.load(out / "model_final.pth")["model"]), {}
    run = find(args.demo / "data/test")
    for source in run.inputs:
        pixels = read_image(source.path, predictor.target).pixels
        (height, width), boxes = run.sizes[source.image_id], predictor([pixels])[0]
        scaled = box_ops.scale(boxes.boxes, width / pixels.shape[1], height / pixels.shape[0])
        result[source.image_id] = replace(boxes, boxes=scaled, label_set=VINBIGDATA)
    return result


def own_no_finding(boxes: Predictions) -> Predictions:
    """The findings, and class 14 with the detector's own best score for it."""
    own = boxes.scores[boxes.labels == NO_FINDING_ID]
    return boxes.findings() + no_finding(float(own.max(initial=0.0)))


def report(demo: Path, forms: dict[str, dict[str, Predictions]]) -> None:
    """mAP40, its difference from the first form, and AP40 of "no finding"."""
    records = sorted(read_truth(demo / "raw/test_annotations.csv"), key=lambda record: record.image_id)
    bootstrap, first, rows = image_bootstrap(records, 1000), None, []
    for name, predictions in forms.items():
        value = mean_ap(predictions, records, bootstrap)
        first = first or value
        gain = Difference.of(value, first).gain
        metrics = vindr_ap(predictions, truth_of(records)).as_metrics()
        rows.append([name, f"{metrics['vindr/mAP40']:.4f}", f"{gain.value:+.4f}",
                     f"[{gain.low:+.4f}, {gain.high:+.4f}]", f"{metrics['vindr/AP40/No finding']:.4f}"])
    print(f"{len(records)} test images, {sum(record.normal for record in records)} of them normal\n")
    header = ["class 14", "mAP40", "difference", "95 %", "AP40 of class 14"]
    print(tabulate(rows, header, disable_numparse=True))


if __name__ == "__main__":
    main()
