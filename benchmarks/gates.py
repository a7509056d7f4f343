#!/usr/bin/env python
"""The gain of a gate and of a search of post-processing, on phantoms: fitted out of fold, scored on others.

    python benchmarks/gates.py --out outputs/gates      # 25 minutes on two cores

Trains the demo's detector on two of three folds and a classifier of 15 labels on all three, side by side,
with one thread each. `vindr-det gate fit` and `vindr-det tune` use the third fold alone, on which neither
model was trained; then each form of gate, with the parameters that were fitted there, is scored on 600
other phantoms, with paired intervals against no classifier. Existing results are kept.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from running import ONE_THREAD, ROOT, phantom_data, tool
from tabulate import tabulate

from vindr_det import cli
from vindr_det.classification.probabilities import read_classifier_outputs
from vindr_det.data.in_sample import refuse_in_sample
from vindr_det.data.truth import read_truth
from vindr_det.files import read_json
from vindr_det.metrics.bootstrap import image_bootstrap
from vindr_det.metrics.intervals import Difference
from vindr_det.metrics.voc import mean_ap
from vindr_det.postprocessing.gate import gate_all, gate_from_json
from vindr_det.submission import read_submission


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/gates"), help="folder to create")
    parser.add_argument("--iterations", type=int, default=600, help="of the detector's training")
    parser.add_argument("--epochs", type=int, default=8, help="of the classifier's training")
    parser.add_argument("--trials", type=int, default=200, help="of tune.py")
    args = parser.parse_args()
    out = args.out.resolve()
    data = phantom_data(out, train=1500, test=600, folds=3)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda work: work(), [lambda: detector(out, data, args.iterations),
                                            lambda: classifier(out, data, args.epochs)]))
    validation = predictions(out, data)
    oof, test = out / "classifier/oof_predictions.csv", out / "classes.csv"
    truth = data / "annotations/instances_val_fold0.json"
    tool("gate.py", "fit", "--probabilities", oof, "--predictions", validation, "--annotations", truth,
         "--out", out / "gate.json")
    held_out(out, test)
    tool("tune.py", "--predictions", validation, "--annotations", truth, "--probabilities", oof, "--out",
         out / "tuned.json", "--trials", args.trials)


def detector(out: Path, data: Path, iterations: int) -> None:
    if not (out / "detector/model_final.pth").is_file():
        print("training the detector", flush=True)
        with (out / "detector.log").open("w") as log:
            tool("train_net.py", "--config", ROOT / "configs/demo/vindr_frcnn_demo.yaml", "--resume",
                 "--engine", "torchvision", "OUTPUT_DIR", out / "detector", "VINDR.DATA_ROOT", data,
                 "DATASETS.TRAIN", "('vindr_train_fold0',)", "SOLVER.MAX_ITER", iterations,
                 "TEST.EVAL_PERIOD", 0, env=ONE_THREAD, stdout=log, stderr=log)


def classifier(out: Path, data: Path, epochs: int) -> None:
    if not (out / "classifier/metrics.json").is_file():
        print("training the classifier", flush=True)
        with (out / "classifier.log").open("w") as log:
            tool("train_classifier.py", "--config", ROOT / "configs/classifier/demo/vindr_binary.yaml",
                 "--resume", "OUTPUT_DIR", out / "classifier", "DATA.IMAGES", data / "train", "DATA.LABELS",
                 data / "annotations/labels.csv", "DATA.TARGET", "vindr15", "SOLVER.EPOCHS", epochs,
                 env=ONE_THREAD, stdout=log, stderr=log)
    if not (out / "classes.csv").is_file():
        tool("classify.py", "--classifier", out / "classifier", "--images", data / "test", "--out",
             out / "classes.csv", env=ONE_THREAD)


def predictions(out: Path, data: Path) -> Path:
    """Boxes on the third fold and on the held-out images; returns the path of the former."""
    jobs = [(("--dataset", "vindr_val_fold0"), out / "validation.csv"),
            (("--dataset", "vindr_test"), out / "test.csv")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: predict(out, *job), jobs))
    return out / "validation.csv"


def predict(out: Path, images: tuple[str, str], target: Path) -> None:
    if not target.is_file():
        tool("predict.py", "--weights", out / "detector/model_final.pth", *images, "--out", target,
             env=ONE_THREAD)


def held_out(out: Path, test: Path) -> None:
    """Score each form, with its fitted parameters, on images that nothing was fitted on."""
    fitted = read_json(out / "gate.json")
    outputs, boxes = read_classifier_outputs(test), read_submission(out / "test.csv")
    refuse_in_sample(out / "gate.json", list(boxes))
    records = sorted(read_truth(out / "raw/test_annotations.csv"), key=lambda record: record.image_id)
    bootstrap = image_bootstrap(records, 1000)
    scored = {form: mean_ap(gate_all(gate_from_json(result["gate"]), boxes, outputs), records, bootstrap)
              for form, result in fitted["forms"].items()}
    rows = []
    for form, value in scored.items():
        gain = Difference.of(value, scored["none"]).gain
        rows.append([form, f"{value.value:.4f}", f"{gain.value:+.4f}", f"[{gain.low:+.4f}, {gain.high:+.4f}]",
                     "chosen" if form == fitted["gate"]["form"] else ""])
    print(f"\n{len(records)} held-out images\n")
    print(tabulate(rows, ["form", "mAP40", "over none", "95 %", ""], disable_numparse=True))


if __name__ == "__main__":
    main()
