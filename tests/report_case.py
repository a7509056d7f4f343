"""A tiny run for the report's tests: six images, three readers, and predictions of known outcomes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from vindr_det.structures.label_sets import VINBIGDATA

#: What would end a script, an attribute or an element, where it was not escaped.
EVIL = "a<!--<script>\"'&b"
HEIGHT, WIDTH = 200, 160
#: Image id -> true boxes of [class id, x_min, y_min, x_max, y_max]; "d" and "e" are normal.
TRUTH = {
    "a1": [(3, 20, 100, 120, 160)],
    "b1": [(0, 60, 20, 100, 60), (8, 10, 10, 30, 30)],
    "c1": [(10, 10, 120, 60, 180)],
    "d1": [],
    "e1": [],
    EVIL: [(3, 20, 100, 120, 160)],
}
#: Image id -> predicted boxes of [class id, score, x_min, y_min, x_max, y_max].
PREDICTED = {
    "a1": [(3, 0.9, 20, 100, 120, 160), (3, 0.4, 20, 100, 118, 158)],  # a true positive and a duplicate
    "b1": [(0, 0.5, 60, 20, 100, 60), (7, 0.2, 10, 10, 30, 30)],  # the nodule is missed
    "c1": [(10, 0.35, 10, 120, 60, 180)],
    "d1": [(4, 0.6, 5, 5, 50, 50)],  # a false positive on a normal image
    "e1": [],
    EVIL: [(3, 0.8, 20, 100, 120, 160)],
}


def write_case(folder: Path, readers: int = 3) -> dict[str, str]:
    """Option -> file of the run.

    Args:
        folder: of the files.
        readers: who all draw the same boxes.
    """
    names = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    rows = [(image_id, VINBIGDATA.findings[box[0]], box[0], f"R{reader}", *box[1:]) if box else
            (image_id, "No finding", 14, f"R{reader}", None, None, None, None)
            for image_id, boxes in TRUTH.items() for reader in range(1, readers + 1) for box in boxes or [()]]
    pd.DataFrame(rows, columns=names).to_csv(folder / "truth.csv", index=False)
    pd.DataFrame([(image_id, HEIGHT, WIDTH) for image_id in TRUTH],
                 columns=["image_id", "dim0", "dim1"]).to_csv(folder / "meta.csv", index=False)
    strings = [(image_id, " ".join(f"{value:g}" for box in boxes for value in box) or "14 1 0 0 1 1")
               for image_id, boxes in PREDICTED.items()]
    pd.DataFrame(strings, columns=["image_id", "PredictionString"]).to_csv(folder / "S.csv", index=False)
    (folder / "images").mkdir()
    for number, image_id in enumerate(TRUTH):
        picture = np.random.default_rng(number).integers(0, 255, (HEIGHT // 2, WIDTH // 2), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{image_id}.png"), picture)
    return {name: str(folder / file) for name, file in (
        ("predictions", "S.csv"), ("annotations", "truth.csv"), ("meta", "meta.csv"), ("images", "images"))}


def data_of(page: str, name: str = "browser-data"):
    """JSON of a script element of a page."""
    return json.loads(page.partition(f'id="{name}">')[2].partition("</script>")[0])


def write_odd_case(folder: Path) -> dict[str, str]:
    """:func:`write_case` with all that can be wrong with an image.

    "e1" was not read and "d1" not predicted, both normal; "c1" has 120 boxes above its true positive; the
    file of "b1" is of another picture, the last image has none. Two readers are "Smith, J" and "predictions".
    """
    files = write_case(folder)
    truth = pd.read_csv(files["annotations"])
    truth["rad_id"] = truth["rad_id"].replace({"R1": "Smith, J", "R2": "predictions"})
    truth.to_csv(files["annotations"], index=False)
    table = pd.read_csv(files["predictions"]).set_index("image_id")["PredictionString"]
    table["c1"] = " ".join(["5 0.5 100 20 130 40"] * 120 + [table["c1"]])
    table.drop("d1").to_csv(files["predictions"])
    statuses = [(name, f"{name}.png", "failed", "no pixels", None, None) if name == "e1" else
                (name, f"{name}.png", "ok", "", HEIGHT, WIDTH) for name in TRUTH if name != "d1"]
    columns = ["image_id", "file", "status", "reason", "height", "width"]
    frame = pd.DataFrame(statuses, columns=columns).astype({"height": "Int64", "width": "Int64"})
    frame.to_csv(folder / "S.status.csv", index=False)
    other = np.random.default_rng(0).integers(0, 255, (100, 400), np.uint8)
    cv2.imwrite(str(folder / "images" / "b1.png"), other)
    (folder / "images" / f"{EVIL}.png").unlink()
    return files
