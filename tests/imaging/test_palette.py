"""Colors of findings, measured as color-blind people see them."""

import itertools

import numpy as np
import pytest

from vindr_det.imaging.palette import PALETTE, color_of, text_color_on

#: Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIMULATIONS = {
    "normal": np.eye(3),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
}
#: Without black.
OKABE_ITO = ("e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7")


def linear(colors):
    values = np.array(colors) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def cielab(colors):
    """Linear RGB (N, 3) to CIELAB, D65."""
    xyz = colors @ np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                             [0.0193339, 0.1191920, 0.9503041]]).T / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def ciede2000(first, second):
    """Sharma, Wu and Dalal (2005), of two colors in CIELAB."""
    (l1, a1, b1), (l2, a2, b2) = first, second
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    more = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25.0**7))
    c1, c2 = np.hypot(a1 * more, b1), np.hypot(a2 * more, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * more)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    hue = (h1 + turn / 2) % 360
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    t = 1 + sum(factor * np.cos(np.radians(times * hue + shift)) for factor, times, shift in
                ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63)))
    dl = (l2 - l1) / (1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(
        np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    return np.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh)


def smallest_distance(colors):
    """Of any two colors, in the worst of the simulations."""
    seen = [cielab(np.clip(linear(colors) @ matrix.T, 0, 1)) for matrix in SIMULATIONS.values()]
    return min(ciede2000(first, second) for lab in seen for first, second in itertools.combinations(lab, 2))


@pytest.mark.parametrize("first, second, expected", [
    ((50, 0, 0), (50, 0, 0), 0), ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 2.5, 0), (73, 25, -18), 27.1492), ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644)])
def test_the_distance_is_the_published_one(first, second, expected):
    assert ciede2000(first, second) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("count, smallest", [(7, 15.4), (14, 13.7), (22, 8.4)])
def test_findings_differ_for_color_blind_people(count, smallest):
    """14 findings are further apart than the seven colors of Okabe and Ito."""
    okabe_ito = smallest_distance([[int(code[at : at + 2], 16) for at in (0, 2, 4)] for code in OKABE_ITO])
    assert okabe_ito == pytest.approx(11.6, abs=0.05)
    distance = smallest_distance([color_of(label) for label in range(count)])
    assert distance >= smallest and (count > 14 or distance > okabe_ito)


def test_colors_show_on_a_dark_film_and_their_texts_on_them():
    labs = cielab(linear([color_of(label) for label in range(len(PALETTE))]))
    assert labs[:, 0].min() > 40
    for label in range(len(PALETTE)):
        back, text = (linear([color]) @ [0.2126, 0.7152, 0.0722] for color in
                      (color_of(label), text_color_on(color_of(label))))
        assert (max(back, text) + 0.05) / (min(back, text) + 0.05) >= 4.5  # WCAG AA


def test_colors_come_again_after_the_last():
    assert len(set(PALETTE)) == 22 and color_of(22) == color_of(0) == (255, 192, 0)
