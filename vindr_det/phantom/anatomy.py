"""One synthetic person in a postero-anterior chest view, drawn as an attenuation map.

Proportions were set by eye against real films and by the places where VinBigData's readers drew
their boxes (the aortic knob near (.57, .33), the widest level of the heart near (.58, .60), the
costophrenic angles near y = .72).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.phantom.canvas import Canvas, Map, Point, bezier

RIGHT, LEFT = -1, 1  # the patient's sides; the right one is on the image's left
SIDES = (RIGHT, LEFT)


@dataclass(frozen=True)
class Anatomy:
    """The varying features of a person; fractions as in :mod:`canvas`."""

    middle: float  # x of the spine
    apex: float  # y of the lungs' tops
    dome: dict[int, float]  # y of each hemidiaphragm's top
    chest: float  # half width of the lungs at their widest
    heart: float  # cardiothoracic ratio
    aorta: float  # radius of the aortic knob
    fat: float  # soft tissue over the chest
    female: bool
    gastric_air: bool
    tilt: float  # degrees

    @property
    def heart_level(self) -> float:
        """y of the heart's widest level."""
        return self.dome[LEFT] - 0.075

    @property
    def heart_edges(self) -> tuple[float, float]:
        """x of the heart's right and left border: a third is right of the spine."""
        width = self.heart * 2 * self.chest
        return self.middle - 0.33 * width, self.middle + 0.67 * width

    @property
    def aortic_arch(self) -> Point:
        """Middle of the aortic knob."""
        return self.middle + 0.042 + 0.5 * self.aorta, self.apex + 0.155

    @property
    def angle(self) -> dict[int, float]:
        """y of each costophrenic angle."""
        return {side: y + 0.085 for side, y in self.dome.items()}

    def half_width(self, y: NDArray | float) -> NDArray:
        """Half width of the lung field at the height ``y``."""
        t = np.clip((np.asarray(y) - self.apex) / (max(self.dome.values()) - self.apex), 0, 1.2)
        return self.chest * (0.52 + 0.48 * np.sin(np.minimum(t * 1.1, 1.0) * np.pi / 2))


def sample_anatomy(rng: np.random.Generator, cardiomegaly: bool, aortic: bool) -> Anatomy:
    """A random person; an enlarged heart or aorta is part of the build, not painted on later."""
    dome = 0.655 + rng.normal(0, 0.022)
    return Anatomy(
        middle=0.5 + rng.normal(0, 0.012),
        apex=0.165 + rng.normal(0, 0.015),
        dome={RIGHT: dome - 0.012, LEFT: dome + 0.012 + abs(rng.normal(0, 0.006))},
        chest=rng.uniform(0.315, 0.37),
        heart=rng.uniform(0.57, 0.68) if cardiomegaly else rng.uniform(0.40, 0.47),
        aorta=rng.uniform(0.052, 0.070) if aortic else rng.uniform(0.024, 0.033),
        fat=rng.uniform(0.0, 1.0),
        female=bool(rng.random() < 0.45),
        gastric_air=bool(rng.random() < 0.8),
        tilt=rng.normal(0, 1.5),
    )


def draw_anatomy(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Draw the person into ``canvas.att`` and set ``canvas.lungs``."""
    _draw_body(canvas, anatomy)
    _draw_lungs(canvas, anatomy, rng)
    _draw_vessels(canvas, anatomy, rng)
    _draw_mediastinum(canvas, anatomy)
    _draw_heart(canvas, anatomy)
    _draw_abdomen(canvas, anatomy, rng)
    _draw_spine(canvas, anatomy)
    _draw_ribs(canvas, anatomy, rng)
    _draw_shoulders(canvas, anatomy)
    if anatomy.female:
        _draw_breasts(canvas, anatomy, rng)


def tilt(canvas: Canvas, degrees: float) -> NDArray[np.float64]:
    """Rotate the finished map about its middle; returns the 2x3 matrix in pixels."""
    center = (canvas.width / 2, canvas.height / 2)
    matrix = cv2.getRotationMatrix2D(center, degrees, 1.0)
    size = (canvas.width, canvas.height)
    canvas.att = cv2.warpAffine(canvas.att, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return matrix


def _draw_body(canvas: Canvas, a: Anatomy) -> None:
    heights = [0.0, 0.07, 0.11, 0.15, 0.20, 0.30, 0.42, 0.60, 0.80, 1.0]
    neck = 0.105 + 0.03 * a.fat
    trunk = a.chest + 0.055 + 0.06 * a.fat
    halves = [neck, neck, neck + 0.06, neck + 0.20, 0.47, 0.50, trunk + 0.06, trunk, trunk - 0.005,
              trunk + 0.01 * a.fat]
    half = np.interp(canvas.y[:, 0], heights, halves).astype(np.float32)
    half = cv2.GaussianBlur(half[:, None], (0, 0), 0.02 * canvas.height)
    u = np.clip(np.abs(canvas.x - np.float32(a.middle)) / half, 0, 1)
    canvas.att += (1 - u**4) ** 0.5 * np.float32(0.62 + 0.12 * a.fat)


def lung_outline(a: Anatomy, side: int) -> NDArray[np.float64]:
    """The lung's outline (N, 2): apex, chest wall, costophrenic angle, dome, mediastinum."""
    down = a.apex + (a.angle[side] - a.apex) * np.linspace(0, 1, 40) ** 1.5
    outer = np.stack([a.middle + side * a.half_width(down), down], axis=1)
    t = np.clip((down - a.apex) / 0.13, 0, 1)
    apex_round = np.sqrt(1 - (1 - t) ** 2)
    outer[:, 0] = a.middle + side * (0.115 + (a.half_width(down) - 0.115) * apex_round)
    inner_x = 0.055
    across = np.linspace(1, 0, 24)
    dome_x = a.middle + side * (inner_x + (a.half_width(a.angle[side]) - inner_x) * across)
    rise = a.angle[side] - a.dome[side]
    dome_y = a.dome[side] + rise * np.abs(across - 0.36) ** 2.3 / 0.64**2.3
    medial = bezier((a.middle + side * inner_x, dome_y[-1]), (a.middle + side * 0.062, 0.42),
                    (a.middle + side * 0.055, a.apex + 0.06), 16)
    return np.concatenate([outer, np.stack([dome_x, dome_y], axis=1), medial])


def _draw_lungs(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> None:
    for side in SIDES:
        mask = canvas.polygon(lung_outline(a, side))
        distance = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        depth = 1 - np.exp(-distance / (0.040 * canvas.width))
        canvas.lungs[side] = canvas.blur((mask * depth).astype(np.float32), 0.0025)
    texture = 1 + 0.035 * canvas.cloud(rng, 0.12)
    canvas.att -= canvas.lung * (0.40 + 0.04 * a.fat) * texture


def _draw_vessels(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> None:
    by_width: dict[float, list[NDArray]] = {}
    for side in SIDES:
        hilum = (a.middle + side * 0.075, a.apex + 0.26)
        for heading in np.linspace(-1.25, 1.45, 11) + rng.normal(0, 0.08, 11):
            _grow(by_width, hilum, heading, side, 0.0085, rng)
    vessels = canvas.blank()
    for width, lines in by_width.items():
        vessels += canvas.strokes(lines, width, 0.0006) * (0.035 + 5.5 * width)
    canvas.att += canvas.blur(vessels, 0.0008) * canvas.lung
    for side in SIDES:
        hilum_ball = canvas.ball(a.middle + side * 0.075, a.apex + 0.26, 0.038, 0.06, -15 * side)
        canvas.att += 0.07 * canvas.blur(hilum_ball, 0.008)


def _grow(
    lines: dict[float, list[NDArray]], start: Point, heading: float, side: int, width: float,
    rng: np.random.Generator,
) -> None:
    """A vessel that wanders, thins and forks; ``heading`` is 0 sideways, positive downward."""
    x, y = start
    while width > 0.0012:
        length = rng.uniform(0.03, 0.055)
        end = (x + side * np.cos(heading) * length, y + np.sin(heading) * length)
        bend = ((x + end[0]) / 2 + rng.normal(0, 0.004), (y + end[1]) / 2 + rng.normal(0, 0.004))
        lines.setdefault(round(width, 4), []).append(bezier((x, y), bend, end, 6))
        (x, y), width = end, width * 0.74
        if rng.random() < 0.7:
            fork = heading + rng.choice([-1, 1]) * rng.uniform(0.35, 0.8)
            _grow(lines, (x, y), fork, side, width * 0.75, rng)
        heading += rng.normal(0, 0.12)


def _draw_mediastinum(canvas: Canvas, a: Anatomy) -> None:
    band = np.exp(-(((canvas.x - np.float32(a.middle)) / 0.062) ** 4)) * np.ones_like(canvas.y)
    canvas.att += 0.085 * band.astype(np.float32)
    x, y = a.aortic_arch
    knob = canvas.ball(x, y, a.aorta, a.aorta * 1.05)
    canvas.att += 0.15 * canvas.blur(knob, 0.003)
    descending = bezier((x + 0.3 * a.aorta, y), (x - 0.004, 0.48), (a.middle + 0.03, 0.66))
    canvas.att += 0.05 * canvas.strokes([descending], 0.042, 0.004)
    trachea = [(a.middle - 0.004, 0.02), (a.middle - 0.004, a.apex + 0.17)]
    carina = a.apex + 0.17
    main = [bezier((a.middle, carina), (a.middle + s * 0.02, carina + 0.02),
                   (a.middle + s * 0.06, carina + 0.06)) for s in SIDES]
    canvas.att -= 0.11 * canvas.strokes([trachea], 0.030, 0.003)
    canvas.att -= 0.05 * canvas.strokes(main, 0.018, 0.004)


def heart_outline(a: Anatomy) -> NDArray[np.float64]:
    """The cardiac silhouette (N, 2), widest at ``heart_level``."""
    right, left = a.heart_edges
    level, top = a.heart_level, a.apex + 0.19
    knots = [
        (a.middle + 0.045, top), (a.middle + 0.075, top + 0.07),
        (left - 0.045, level - 0.075), (left, level), (left - 0.008, level + 0.06),
        (left - 0.06, level + 0.115), (a.middle, level + 0.125),
        (right + 0.025, level + 0.085), (right, level - 0.005), (right + 0.02, level - 0.09),
        (a.middle - 0.045, top + 0.08), (a.middle - 0.04, top),
    ]
    middles = [((p[0] + q[0]) / 2, (p[1] + q[1]) / 2)
               for p, q in zip(knots, knots[1:] + knots[:1], strict=True)]
    return np.concatenate([bezier(middles[i - 1], knots[i], middles[i], 8)
                           for i in range(len(knots))])


def _draw_heart(canvas: Canvas, a: Anatomy) -> None:
    mask = canvas.polygon(heart_outline(a))
    distance = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    depth = 1 - np.exp(-distance / (0.030 * canvas.width))
    muscle = canvas.blur((mask * (0.14 + 0.22 * depth)).astype(np.float32), 0.003)
    # The spine's band is bright already, and the lower border is lost in the abdomen.
    spine = np.exp(-(((canvas.x - np.float32(a.middle)) / 0.062) ** 4))
    abdomen = 1 / (1 + np.exp(-(canvas.y - np.float32(a.dome[LEFT] + 0.01)) / 0.012))
    canvas.att += muscle * (1 - 0.45 * spine) * (1 - 0.85 * abdomen)


def _draw_abdomen(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> None:
    fade = 1 / (1 + np.exp(-(canvas.y - np.float32(a.dome[LEFT] + 0.01)) / 0.03))
    inside = np.clip(1.6 - np.abs(canvas.x - np.float32(a.middle)) / a.chest * 1.1, 0, 1)
    canvas.att += np.float32(0.20) * fade * inside * (1 - np.clip(2.2 * canvas.lung, 0, 1))
    if a.gastric_air:
        bubble = canvas.ball(a.middle + rng.uniform(0.13, 0.19), a.dome[LEFT] + 0.075,
                             rng.uniform(0.04, 0.075), rng.uniform(0.018, 0.034), -12)
        canvas.att -= 0.15 * canvas.blur(bubble, 0.003)
    for _ in range(rng.integers(1, 5)):
        gas = canvas.ball(rng.uniform(0.3, 0.75), rng.uniform(0.85, 0.97), 0.03, 0.02,
                          rng.uniform(0, 180))
        canvas.att -= 0.05 * canvas.blur(gas, 0.004)


def _draw_spine(canvas: Canvas, a: Anatomy) -> None:
    column = np.exp(-(((canvas.x - np.float32(a.middle)) / 0.036) ** 6))
    pitch = 0.043 + 0.012 * canvas.y
    discs = 0.5 + 0.5 * np.cos(2 * np.pi * canvas.y / pitch)
    canvas.att += (column * (0.06 - 0.025 * discs**6)).astype(np.float32)
    pedicles = [(a.middle + s * 0.02, y) for y in np.arange(0.08, 0.9, 0.05) for s in SIDES]
    lines = [[(x - 0.002, y), (x + 0.002, y)] for x, y in pedicles]
    canvas.att += 0.025 * canvas.strokes(lines, 0.010, 0.002)


def _bone(canvas: Canvas, lines: list[NDArray], width: float, dense: float) -> Map:
    """A bone's projection: its cortex is seen edge-on at both rims, so they are brighter."""
    whole = canvas.strokes(lines, width, 0.0010)
    inner = canvas.strokes(lines, width - 0.0065, 0.0016)
    return dense * (0.55 * whole + 0.75 * np.clip(whole - inner, 0, 1))


def _draw_ribs(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> None:
    back, front = [], []
    wobble = rng.normal(0, 0.003, 10)
    for side in SIDES:
        for index in range(10):
            y = a.apex - 0.005 + 0.056 * index + wobble[index]
            drop = 0.060 + 0.009 * index
            outer = a.middle + side * float(a.half_width(y + drop) + 0.008)
            back.append(bezier((a.middle + side * 0.03, y),
                               (a.middle + side * 0.75 * abs(outer - a.middle), y - 0.065),
                               (outer, y + drop), 30))
            if 1 <= index <= 6:
                front.append(bezier((outer, y + drop), (outer - side * 0.03, y + drop + 0.075),
                                    (a.middle + side * 0.13, y + drop + 0.105), 30))
    shade = 0.35 + 0.65 * canvas.lung
    canvas.att += _bone(canvas, back, 0.022, 0.105) * shade
    canvas.att += _bone(canvas, front, 0.026, 0.055) * shade


def _draw_shoulders(canvas: Canvas, a: Anatomy) -> None:
    clavicles, blades = [], []
    for side in SIDES:
        clavicles.append(bezier((a.middle + side * 0.04, a.apex + 0.06),
                                (a.middle + side * 0.20, a.apex + 0.045),
                                (a.middle + side * 0.37, a.apex - 0.02), 30))
        blades.append(bezier((a.middle + side * 0.36, a.apex + 0.04),
                             (a.middle + side * (a.chest - 0.045), a.apex + 0.15),
                             (a.middle + side * (a.chest + 0.02), a.apex + 0.33), 30))
        head = canvas.ball(a.middle + side * 0.44, a.apex + 0.045, 0.055, 0.055)
        canvas.att += 0.10 * canvas.blur(head, 0.003)
        plate = canvas.ball(a.middle + side * (a.chest + 0.035), a.apex + 0.16, 0.05, 0.15, 6 * side)
        canvas.att += 0.035 * canvas.blur(plate, 0.008)
    canvas.att += _bone(canvas, clavicles, 0.024, 0.105)
    canvas.att += 0.028 * canvas.strokes(blades, 0.007, 0.0015)


def _draw_breasts(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> None:
    y = a.dome[LEFT] - 0.03 + rng.normal(0, 0.02)
    for side in SIDES:
        breast = canvas.ball(a.middle + side * 0.235, y - 0.03, 0.135, 0.125)
        canvas.att += (0.05 + 0.05 * a.fat) * canvas.blur(breast, 0.006)
