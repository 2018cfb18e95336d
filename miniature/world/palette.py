"""The colours of the world, RGB in 0..1."""

import colorsys

import numpy as np

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.14, 0.14),
    "orange": (0.97, 0.53, 0.10),
    "yellow": (0.98, 0.85, 0.15),
    "green": (0.16, 0.62, 0.24),
    "blue": (0.13, 0.36, 0.88),
    "purple": (0.52, 0.22, 0.74),
    "pink": (0.98, 0.52, 0.74),
    "brown": (0.48, 0.28, 0.14),
    "white": (0.96, 0.96, 0.95),
    "black": (0.13, 0.13, 0.15),
}
COLOUR_NAMES = list(COLOURS)

CREAM = (0.98, 0.94, 0.82)
CHARCOAL = (0.17, 0.18, 0.22)
TRIMS = [
    CREAM,
    CHARCOAL,
    (0.85, 0.66, 0.22),
    (0.12, 0.55, 0.58),
    (0.55, 0.34, 0.20),
    (0.62, 0.66, 0.70),
    (0.93, 0.55, 0.45),
    (0.24, 0.30, 0.52),
]
SKINS = [
    (0.99, 0.86, 0.75),
    (0.96, 0.78, 0.63),
    (0.88, 0.67, 0.49),
    (0.75, 0.53, 0.36),
    (0.57, 0.38, 0.25),
    (0.40, 0.26, 0.18),
]
HAIRS = {
    "black": (0.10, 0.09, 0.10),
    "brown": (0.38, 0.22, 0.11),
    "blond": (0.94, 0.78, 0.36),
    "red": (0.74, 0.27, 0.08),
    "gray": (0.66, 0.66, 0.69),
    "white": (0.94, 0.94, 0.93),
}
HAIR_NAMES = list(HAIRS)
EYES = [(0.30, 0.19, 0.10), (0.18, 0.42, 0.78), (0.20, 0.52, 0.28), (0.35, 0.38, 0.42)]


def tone(rgb: tuple[float, float, float], hue: float, value: float) -> np.ndarray:
    """A neighbour of a colour that keeps its name: hue in turns, value relative."""
    h, s, v = colorsys.rgb_to_hsv(*rgb)
    return np.array(colorsys.hsv_to_rgb((h + hue) % 1.0, s, min(1.0, v * (1 + value))), np.float32)


def contrast(a: np.ndarray, b: np.ndarray) -> float:
    """Difference of two colours, brightness counted more than hue."""
    d = np.asarray(a) - np.asarray(b)
    return float(np.abs(d @ np.array([0.3, 0.59, 0.11])) + 0.3 * np.abs(d).mean())
