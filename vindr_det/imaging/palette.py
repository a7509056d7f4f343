"""A color for each finding that color-blind people can tell from the others.

The colors were searched for the largest smallest distance (CIEDE2000) between any two of them, over normal
vision, deuteranopia and protanopia as Machado et al. (2009) simulate them. Among the first 14 it is 13.7,
among all 22 it is 8.4; among the seven of Okabe and Ito that are not black it is 11.6.
``tests/imaging/test_palette.py`` measures them. All are lighter than CIELAB's L = 40, so that they show on a
dark film.
"""

Color = tuple[int, int, int]

PALETTE = (
    "ffc000", "8000ff", "60ffff", "008060", "60c0a0", "c02020", "8080ff", "a04080",
    "c0ffe0", "ff4000", "80c0ff", "40a0a0", "60a060", "c0ffa0", "c06080", "40e0a0",
    "0080c0", "20a0c0", "60c0c0", "a04040", "80c060", "e0ff60",
)


def color_of(label: int) -> Color:
    """The color of a class id, (R, G, B) of 0..255; after the last color the first comes again."""
    code = PALETTE[label % len(PALETTE)]
    return int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)


def code_of(label: int) -> str:
    """The color of a class id as ``#rrggbb``."""
    return f"#{PALETTE[label % len(PALETTE)]}"


def text_color_on(color: Color) -> Color:
    """Black or white, whichever is easier to read on a color."""
    red, green, blue = (_linear(value / 255) for value in color)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
