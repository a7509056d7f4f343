"""From an attenuation map to a 10 to 16-bit radiograph: exposure, noise, collimation, marker."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.phantom.anatomy import draw_anatomy, sample_anatomy, tilt
from vindr_det.phantom.canvas import Canvas, Map
from vindr_det.phantom.findings import Finding, draw_findings

#: Anatomy is drawn at most this wide and then enlarged: a film's detail ends well before this.
_DRAWING_WIDTH = 1280


@dataclass(frozen=True)
class Radiograph:
    """One finished phantom.

    Attributes:
        pixels: (H, W) uint16, bright where little passed (MONOCHROME2), in ``bits`` bits.
        bits: 10, 12, 14 or 16.
        window: (center, width) in pixel values.
        findings: what was drawn, boxes xyxy in pixels.
        sex: F or M.
    """

    pixels: NDArray[np.uint16]
    bits: int
    window: tuple[int, int]
    findings: tuple[Finding, ...]
    sex: str


def render(
    rng: np.random.Generator, height: int, width: int, labels: Sequence[int] = (), bits: int = 12
) -> Radiograph:
    """Draw one phantom.

    Args:
        rng: source of everything random.
        height: rows of the image.
        width: columns of the image.
        labels: class ids (0..13) of the findings it shall show.
        bits: bits a pixel holds.
    """
    factor = min(1.0, _DRAWING_WIDTH / width)
    canvas = Canvas(round(height * factor), round(width * factor))
    anatomy = sample_anatomy(rng, cardiomegaly=3 in labels, aortic=0 in labels)
    draw_anatomy(canvas, anatomy, rng)
    findings = draw_findings(canvas, anatomy, rng, labels)
    matrix = tilt(canvas, anatomy.tilt)
    fraction = np.array([canvas.width, canvas.height])
    boxes = [_turn(np.asarray(f.box), matrix, fraction) for f in findings]
    image = cv2.resize(_expose(canvas, rng), (width, height), interpolation=cv2.INTER_CUBIC)
    image = _detect(image, rng)
    _collimate(image, rng)
    _mark(image, rng)
    pixels, window = _digitize(image, bits, rng)
    placed = tuple(
        Finding(f.label, _to_pixels(box, height, width), f.conspicuity)
        for f, box in zip(findings, boxes, strict=True)
    )
    return Radiograph(pixels, bits, window, placed, "F" if anatomy.female else "M")


def _turn(box: NDArray, matrix: NDArray, size: NDArray) -> NDArray:
    """A box (fractions) after the film was tilted: middle and size turn, sides stay upright."""
    middle = (box[:2] + box[2:]) / 2 * size
    half = (box[2:] - box[:2]) / 2
    turned = (matrix @ np.append(middle, 1.0)) / size
    return np.concatenate([turned - half, turned + half])


def _to_pixels(box: NDArray, height: int, width: int) -> tuple[float, float, float, float]:
    scaled = np.round(np.clip(box, 0, 1) * [width, height, width, height])
    x0, y0, x1, y1 = scaled.tolist()
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _expose(canvas: Canvas, rng: np.random.Generator) -> Map:
    """Scatter blurs a little of everything; the film's curve flattens dark and bright ends."""
    scatter = canvas.blur(np.clip(canvas.att, 0, None), 0.06)
    signal = np.clip(0.86 * canvas.att + 0.14 * scatter, 0, None)
    gain = rng.uniform(2.3, 2.9)
    return (1 / (1 + np.exp(-gain * 1.9 * (signal - rng.uniform(0.47, 0.53)))) - 0.08) / 0.92


def _detect(image: Map, rng: np.random.Generator) -> Map:
    """Quantum noise, stronger where few photons arrived (bright), and a little unsharpness."""
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 0.6)
    level = np.float32(rng.uniform(0.008, 0.016))
    return np.clip(image, 0, 1) + level * grain * np.sqrt(0.2 + np.clip(image, 0, 1))


def _collimate(image: Map, rng: np.random.Generator) -> None:
    """Shutter edges on some films: nothing was exposed there, so it is black after processing."""
    if rng.random() > 0.3:
        return
    height, width = image.shape
    for axis, length in ((0, height), (1, width)):
        for end in (0, 1):
            if rng.random() < 0.4:
                strip = round(length * rng.uniform(0.005, 0.03))
                part = slice(0, strip) if end == 0 else slice(length - strip, length)
                image[(part, slice(None)) if axis == 0 else (slice(None), part)] = 0.0


def _mark(image: Map, rng: np.random.Generator) -> None:
    """The lead letter R beside the patient's right shoulder."""
    if rng.random() < 0.2:
        return
    height, width = image.shape
    place = (round(width * rng.uniform(0.03, 0.10)), round(height * rng.uniform(0.10, 0.20)))
    size, thick = width / 900, max(1, round(width / 350))
    letter = np.zeros(image.shape, np.uint8)
    cv2.putText(letter, "R", place, cv2.FONT_HERSHEY_SIMPLEX, size, 255, thick, cv2.LINE_AA)
    np.copyto(image, np.maximum(image, letter.astype(np.float32) / 255 * 0.97))


def _digitize(
    image: Map, bits: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint16], tuple[int, int]]:
    """Quantize; deep detectors use part of their range and name it by the window."""
    top = 2**bits - 1
    low, high = (0.0, 1.0) if bits <= 12 else (rng.uniform(0.05, 0.15), rng.uniform(0.55, 0.95))
    pixels = np.clip((low + (high - low) * np.clip(image, 0, 1)) * top, 0, top)
    window = (round((low + high) / 2 * top), max(2, round((high - low) * top)))
    return np.round(pixels).astype(np.uint16), window
