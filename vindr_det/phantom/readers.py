"""Seventeen radiologists, three per image, who miss, disagree and jitter as VinBigData's do.

In train.csv every image has exactly three readers; R8, R9 and R10 read almost all abnormal images;
an abnormal image carries boxes from all three, a normal one three "No finding" rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vindr_det.phantom.findings import Finding
from vindr_det.structures.label_sets import CLASS_NAMES, FINDINGS, NO_FINDING, NO_FINDING_ID

READERS = tuple(f"R{number}" for number in range(1, 18))
#: The readers of almost every abnormal image.
FREQUENT = ("R8", "R9", "R10")
#: Share of abnormal images that other readers read (248 of 4,394 in train.csv).
RARE_SHARE = 0.06

# Classes that readers confuse: an infiltration for one reader is a consolidation for another.
_CONFUSED = {
    name: tuple(FINDINGS.index(other) for other in group if other != name)
    for group in (("Consolidation", "Infiltration", "Lung Opacity"), ("ILD", "Pulmonary fibrosis"))
    for name in group
}


def choose_readers(rng: np.random.Generator, abnormal: bool) -> list[str]:
    """Three different readers for one image."""
    if abnormal and rng.random() >= RARE_SHARE:
        return list(FREQUENT)
    others = [reader for reader in READERS if reader not in FREQUENT]
    return sorted(rng.choice(others, 3, replace=False), key=READERS.index)


def read_image(
    rng: np.random.Generator, findings: Sequence[Finding], height: int, width: int, reader: str
) -> list[dict[str, Any]]:
    """One reader's rows for one image, in train.csv's columns but for ``image_id``."""
    if not findings:
        return [annotation_row(NO_FINDING_ID, None, reader)]
    # A reader has a habit: some overlook faint things, some draw generous boxes.
    skill = 0.90 + 0.02 * (READERS.index(reader) % 4)
    margin = 0.01 * (READERS.index(reader) % 5 - 2)
    seen = [f for f in findings if rng.random() < skill * (0.75 + 0.25 * f.conspicuity)]
    if not seen:
        seen = [max(findings, key=lambda f: f.conspicuity)]
    return [
        annotation_row(_named(rng, f.label), _drawn(rng, f, margin, height, width), reader)
        for f in seen
    ]


def annotation_row(
    label: int, box: Sequence[float] | None, reader: str | None = None
) -> dict[str, Any]:
    """A row of train.csv: ``box`` None leaves the coordinates empty, as "No finding" has them."""
    x0, y0, x1, y1 = box if box is not None else (None,) * 4
    row = {"class_name": CLASS_NAMES[label] if box is not None else NO_FINDING, "class_id": label}
    if reader is not None:
        row["rad_id"] = reader
    return row | {"x_min": x0, "y_min": y0, "x_max": x1, "y_max": y1}


def _named(rng: np.random.Generator, label: int) -> int:
    others = _CONFUSED.get(FINDINGS[label], ())
    return int(rng.choice(others)) if others and rng.random() < 0.08 else label


def _drawn(
    rng: np.random.Generator, finding: Finding, margin: float, height: int, width: int
) -> list[int]:
    x0, y0, x1, y1 = finding.box
    w, h = x1 - x0, y1 - y0
    jitter = rng.normal(0, 0.05, 4) + np.array([-margin, -margin, margin, margin])
    box = np.array([x0, y0, x1, y1]) + jitter * np.array([w, h, w, h])
    box = np.round(np.clip(box, 0, [width, height, width, height])).astype(int)
    box[2:] = np.maximum(box[2:], box[:2] + 1)
    return box.tolist()
