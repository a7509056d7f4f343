#!/usr/bin/env python
"""Score a submission: the competition's mAP over 15 classes and COCO AP over 14.

    python tools/evaluate.py --predictions submission.csv --annotations test_annotations.csv
    python tools/evaluate.py --predictions S.csv --annotations instances_val_fold0.json --out DIR

Annotations are a COCO JSON or a VinBigData table (several readers are fused to their consensus).
--chance adds what the same boxes score when they are dealt to other images. --out writes metrics.json.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", required=True, help="a submission")
    parser.add_argument("--annotations", required=True, help="COCO .json or VinBigData .csv")
    parser.add_argument("--out", help="folder for metrics.json")
    parser.add_argument("--chance", action="store_true", help="also score boxes of other images")
    parser.add_argument("--seed", type=int, default=0, help="of --chance")
    args = parser.parse_args(argv)

    from vindr_det import scoring
    from vindr_det.files import write_json
    from vindr_det.submission import read_submission

    predictions = read_submission(args.predictions)
    records = scoring.read_truth(args.annotations)
    absent = sum(record.image_id not in predictions for record in records)
    if absent:
        print(f"note: {absent} of {len(records)} images have no prediction and count as empty\n")
    metrics = scoring.score(predictions, records)
    if args.chance:
        dealt = scoring.score(scoring.dealt_anew(predictions, args.seed), records)
        metrics |= {f"chance/{key}": dealt[key] for key in ("vindr/mAP40", "coco/AP")}
    print(scoring.table(metrics, predictions, records))
    if args.out:
        write_json(Path(args.out) / "metrics.json", scoring.as_json(metrics))


if __name__ == "__main__":
    cli.run(main)
