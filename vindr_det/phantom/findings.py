"""The 14 findings, each drawn with its usual place and shape, with the box a reader would draw.

A finding is a function of (canvas, anatomy, rng) that changes the attenuation map and returns its
box in fractions of the image. Sizes and places follow the quantiles of VinBigData's boxes. They
differ in what distinguishes them on film: an edge, a texture, a place, a sign.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vindr_det.phantom.anatomy import LEFT, RIGHT, Anatomy
from vindr_det.phantom.canvas import Canvas, Map, bezier
from vindr_det.structures.label_sets import FINDINGS

Box = tuple[float, float, float, float]
Draw = Callable[[Canvas, Anatomy, np.random.Generator], Box]


@dataclass(frozen=True)
class Finding:
    """One finding as it was drawn.

    Attributes:
        label: class id 0..13.
        box: xyxy.
        conspicuity: 0..1, how easily a reader sees it.
    """

    label: int
    box: Box
    conspicuity: float


def draw_findings(
    canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator, labels: Sequence[int]
) -> list[Finding]:
    """Draw each label once, in the given order; repeat a label to draw it twice."""
    findings = []
    for label in labels:
        box = _DRAW[FINDINGS[label]](canvas, anatomy, rng)
        findings.append(Finding(label, box, float(rng.uniform(0.55, 1.0))))
    return findings


def _side(rng: np.random.Generator) -> int:
    return RIGHT if rng.random() < 0.55 else LEFT


def _spot(
    canvas: Canvas, rng: np.random.Generator, side: int, top: float, bottom: float,
    depth: float = 0.6,
) -> tuple[float, float]:
    """A random point well inside one lung, between two heights."""
    rows = slice(round(top * canvas.height), round(bottom * canvas.height))
    ys, xs = np.nonzero(canvas.lungs[side][rows] > depth)
    if len(xs) == 0:  # a small lung: fall back to its deepest point
        ys, xs = np.nonzero(canvas.lungs[side] >= canvas.lungs[side].max())
        rows = slice(0, 0)
    pick = rng.integers(len(xs))
    return (xs[pick] + 0.5) / canvas.width, (ys[pick] + rows.start + 0.5) / canvas.height


def _extent(mask: Map, level: float = 0.25) -> Box:
    """The box of a mask above ``level`` of its maximum."""
    seen = mask > level * max(float(mask.max()), 1e-6)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    height, width = mask.shape
    return (columns[0] / width, rows[0] / height,
            (columns[-1] + 1) / width, (rows[-1] + 1) / height)


def _around(x: float, y: float, half_width: float, half_height: float) -> Box:
    return x - half_width, y - half_height, x + half_width, y + half_height


def _patch(
    canvas: Canvas, x: float, y: float, rx: float, ry: float, ragged: Map | float, edge: float
) -> Map:
    """A region of an ellipse's shape whose border ``ragged`` noise bends; 0..1."""
    distance = np.sqrt(canvas.ellipse(x, y, rx, ry)) + ragged
    return (1 / (1 + np.exp(np.clip((distance - 1) / edge, -30, 30)))).astype(np.float32)


def _aortic_enlargement(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    # The knob was drawn with the person; an unfolded arch also casts a denser rim.
    x, y = a.aortic_arch
    rim = np.exp(-(((np.sqrt(canvas.ellipse(x, y, a.aorta, a.aorta * 1.05)) - 0.93) / 0.08) ** 2))
    canvas.att += 0.05 * rim.astype(np.float32) * (canvas.x > x - 0.3 * a.aorta)
    return x - 1.15 * a.aorta, y - 1.12 * a.aorta, x + 1.08 * a.aorta, y + 1.15 * a.aorta


def _cardiomegaly(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    # Readers mark the heart's widest level, from border to border.
    left, right = a.heart_edges
    return left, a.heart_level - 0.065, right, a.heart_level + 0.075


def _atelectasis(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """A wedge with its tip at the hilum and straight edges: a collapsed segment."""
    side = _side(rng)
    tip = (a.middle + side * 0.085, a.apex + 0.27)
    reach, heading = rng.uniform(0.17, 0.25), rng.uniform(-0.6, 0.75)
    spread = rng.uniform(0.20, 0.34)
    far = [(tip[0] + side * reach * np.cos(heading + d), tip[1] + reach * np.sin(heading + d))
           for d in (-spread, 0.0, spread)]
    wedge = canvas.polygon([tip, far[0], (far[1][0] - side * 0.03, far[1][1]), far[2]], 0.002)
    wedge *= canvas.lungs[side] > 0.15
    canvas.att += 0.25 * wedge
    return _extent(wedge)


def _calcification(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """A cluster of small, very dense, sharp grains."""
    x, y = _spot(canvas, rng, _side(rng), 0.22, 0.60, 0.5)
    radius = rng.uniform(0.018, 0.045)
    grains = canvas.blank()
    for _ in range(rng.integers(5, 12)):
        dx, dy = rng.uniform(-radius, radius, 2)
        grains += canvas.ball(x + dx, y + dy, *rng.uniform(0.005, 0.011, 2)) > 0
    grains = canvas.blur(np.minimum(grains, 1), 0.0008)
    canvas.att += 0.34 * grains
    return _extent(grains)


def _consolidation(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """Airspaces filled: dense, with black air bronchograms branching through it."""
    side = _side(rng)
    x, y = _spot(canvas, rng, side, 0.30, 0.60, 0.85)
    rx, ry = rng.uniform(0.065, 0.11), rng.uniform(0.07, 0.13)
    patch = _patch(canvas, x, y, rx, ry, 0.16 * canvas.cloud(rng, 0.06), 0.07)
    patch *= np.clip(canvas.lungs[side] * 3, 0, 1)
    hilum = (a.middle + side * 0.08, a.apex + 0.26)
    tubes = [bezier(hilum, (x - side * 0.3 * rx, y + d * ry), (x + side * 0.7 * rx, y + 1.6 * d * ry))
             for d in (-0.45, -0.1, 0.3)]
    canvas.att += 0.30 * patch * (1 - 0.75 * canvas.strokes(tubes, 0.007, 0.0012))
    return _extent(patch, 0.5)


def _ild(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """A fine net of lines over much of a lung."""
    side = _side(rng)
    x, y = _spot(canvas, rng, side, 0.38, 0.56, 0.9)
    rx, ry = rng.uniform(0.085, 0.13), rng.uniform(0.13, 0.20)
    patch = _patch(canvas, x, y, rx, ry, 0.06 * canvas.cloud(rng, 0.1), 0.06)
    patch *= canvas.lungs[side] > 0.3
    net = np.exp(-((canvas.cloud(rng, 0.016, 1) / 0.30) ** 2))
    net += np.exp(-((canvas.cloud(rng, 0.016, 1) / 0.30) ** 2))
    canvas.att += patch * (0.03 + 0.16 * np.minimum(net, 1.2).astype(np.float32))
    return _extent(patch, 0.5)


def _infiltration(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """Patchy, ill-defined tufts."""
    side = _side(rng)
    x, y = _spot(canvas, rng, side, 0.30, 0.58, 0.8)
    rx, ry = rng.uniform(0.06, 0.10), rng.uniform(0.07, 0.13)
    patch = _patch(canvas, x, y, rx, ry, 0.1 * canvas.cloud(rng, 0.06), 0.12)
    patch *= np.clip(canvas.lungs[side] * 3, 0, 1)
    tufts = 1 / (1 + np.exp(-5 * (canvas.cloud(rng, 0.035, 2) - 0.1)))
    canvas.att += 0.21 * patch * tufts.astype(np.float32)
    return _extent(patch, 0.5)


def _lung_opacity(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """An even haze through which the vessels still show."""
    side = _side(rng)
    x, y = _spot(canvas, rng, side, 0.32, 0.60, 0.8)
    rx, ry = rng.uniform(0.05, 0.11), rng.uniform(0.05, 0.11)
    patch = _patch(canvas, x, y, rx, ry, 0.08 * canvas.cloud(rng, 0.1), 0.13)
    patch *= np.clip(canvas.lungs[side] * 3, 0, 1)
    canvas.att += 0.145 * patch
    return _extent(patch, 0.5)


def _nodule(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """Round, well defined, evenly dense."""
    x, y = _spot(canvas, rng, _side(rng), 0.24, 0.64, 0.7)
    radius = float(np.clip(rng.lognormal(np.log(0.026), 0.35), 0.014, 0.06))
    height = radius * canvas.width / canvas.height * rng.uniform(0.85, 1.1)
    ball = canvas.blur(canvas.ball(x, y, radius, height), 0.0012)
    canvas.att += (0.26 + 0.9 * radius) * ball
    return _around(x, y, radius, height)


def _other_lesion(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """What has no class of its own; here a bulla (thin wall, no vessels) or a rib fracture."""
    x, y = _spot(canvas, rng, _side(rng), 0.24, 0.60, 0.75)
    if rng.random() < 0.6:
        radius = rng.uniform(0.035, 0.06)
        distance = np.sqrt(canvas.ellipse(x, y, radius, radius))
        wall = np.exp(-(((distance - 0.92) * radius / 0.0035) ** 2)).astype(np.float32)
        canvas.att += 0.24 * wall - 0.12 * (distance < 0.9)
        return _around(x, y, radius, radius)
    callus = canvas.ball(x, y, 0.034, 0.020, 20) * (0.7 + 0.3 * canvas.cloud(rng, 0.012, 1))
    step = canvas.strokes([[(x - 0.006, y - 0.02), (x + 0.006, y + 0.02)]], 0.004, 0.0008)
    canvas.att += 0.30 * callus - 0.22 * step
    return _around(x, y, 0.034, 0.024)


def _pleural_effusion(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """Fluid in the costophrenic angle, its surface climbing the chest wall (meniscus)."""
    side = _side(rng)
    height = rng.uniform(0.07, 0.20)
    bottom = a.angle[side]
    wall = a.middle + side * float(a.half_width(bottom))
    inner = wall - side * (0.06 + 0.75 * height)
    surface = bezier((wall + side * 0.004, bottom - height),
                     (wall - side * 0.035, bottom - 0.45 * height), (inner, bottom - 0.35 * height))
    fluid = canvas.polygon([*surface, (inner, bottom + 0.01), (wall, bottom + 0.01)], 0.003)
    fluid *= np.clip(canvas.lungs[side] * 6, 0, 1)
    canvas.att += 0.36 * fluid
    return _extent(fluid, 0.3)


def _pleural_thickening(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """A dense rind along the chest wall, mostly over the apex."""
    side = _side(rng)
    apical = rng.random() < 0.75
    if apical:
        ys = np.linspace(a.apex + 0.004, a.apex + rng.uniform(0.045, 0.075), 16)
        xs = a.half_width(ys) * np.linspace(0.62, 0.96, 16)
    else:
        start = rng.uniform(0.40, 0.55)
        ys = np.linspace(start, start + rng.uniform(0.07, 0.13), 16)
        xs = a.half_width(ys) - 0.008
    line = np.stack([a.middle + side * xs, ys], axis=1)
    rind = canvas.strokes([line], rng.uniform(0.016, 0.026), 0.0025)
    canvas.att += 0.24 * rind
    return _extent(rind, 0.3)


def _pneumothorax(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """Air outside the lung: black, without vessels, bounded by a hair-thin pleural line."""
    side = _side(rng)
    bottom = rng.uniform(0.40, 0.60)
    ys = np.linspace(a.apex - 0.01, bottom, 30)
    gap = rng.uniform(0.06, 0.10) * np.clip((bottom - ys) / (bottom - a.apex), 0, 1) ** 0.6
    edge = np.stack([a.middle + side * (a.half_width(ys) - 0.012 - gap), ys], axis=1)
    wall = np.stack([a.middle + side * (a.half_width(ys) + 0.02), ys], axis=1)[::-1]
    space = canvas.polygon(np.concatenate([edge, wall]), 0.001) * (canvas.lungs[side] > 0.06)
    flat = cv2.GaussianBlur(canvas.att, (0, 0), 0.010 * canvas.width)
    canvas.att += space * (0.85 * (flat - canvas.att) - 0.17)
    canvas.att += 0.18 * canvas.strokes([edge], 0.0040, 0.0006) * (canvas.lungs[side] > 0.2)
    return _extent(space, 0.4)


def _pulmonary_fibrosis(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Box:
    """Coarse strands that pull toward the hilum, with small ring shadows between them."""
    side = _side(rng)
    x, y = _spot(canvas, rng, side, 0.22, 0.52, 0.7)
    rx, ry = rng.uniform(0.05, 0.085), rng.uniform(0.05, 0.085)
    strands = []
    for _ in range(rng.integers(9, 14)):
        start = (x + rng.uniform(-rx, rx), y + rng.uniform(-ry, ry))
        pull = (-side * rng.uniform(0.4, 1.0) * rx, rng.uniform(-0.3, 0.9) * ry)
        bend = (start[0] + 0.5 * pull[0], start[1] + 0.5 * pull[1] + rng.normal(0, 0.012))
        strands.append(bezier(start, bend, (start[0] + pull[0], start[1] + pull[1]), 10))
    lines = canvas.strokes(strands, 0.0055, 0.0008)
    patch = _patch(canvas, x, y, rx * 1.1, ry * 1.1, 0.0, 0.08)
    patch *= np.clip(canvas.lungs[side] * 3, 0, 1)
    rings = np.abs(canvas.cloud(rng, 0.022, 1)) < 0.22
    canvas.att += patch * (0.06 + 0.23 * lines + 0.06 * canvas.blur(rings.astype(np.float32), 0.001))
    return _extent(patch, 0.5)


_DRAW: dict[str, Draw] = {
    "Aortic enlargement": _aortic_enlargement,
    "Atelectasis": _atelectasis,
    "Calcification": _calcification,
    "Cardiomegaly": _cardiomegaly,
    "Consolidation": _consolidation,
    "ILD": _ild,
    "Infiltration": _infiltration,
    "Lung Opacity": _lung_opacity,
    "Nodule/Mass": _nodule,
    "Other lesion": _other_lesion,
    "Pleural effusion": _pleural_effusion,
    "Pleural thickening": _pleural_thickening,
    "Pneumothorax": _pneumothorax,
    "Pulmonary fibrosis": _pulmonary_fibrosis,
}
