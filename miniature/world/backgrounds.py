"""Ten places and an empty studio, in a fixed number of variants each, kept once drawn."""

from collections.abc import Callable
from functools import cache

import numpy as np

from .canvas import SIZE, Canvas, Frame
from .shapes import box, capsule, circle, ellipse, polygon

VARIANTS = 40
RNG = np.random.Generator


def gradient(top: tuple, bottom: tuple, y0: float = 0, y1: float = SIZE) -> np.ndarray:
    """(128, 128, 3), top colour above y0, bottom colour under y1, px."""
    t = np.clip((np.arange(SIZE) + 0.5 - y0) / max(y1 - y0, 1), 0, 1)[:, None, None]
    rgb = np.asarray(top) * (1 - t) + np.asarray(bottom) * t
    return np.repeat(rgb, SIZE, 1).astype(np.float32)


def split(upper: np.ndarray, lower: np.ndarray, line: np.ndarray | float) -> np.ndarray:
    """Upper picture above the line (px, a number or one a column), lower under it."""
    y = np.arange(SIZE)[:, None] + 0.5
    t = np.clip(y - np.broadcast_to(line, (SIZE,))[None, :] + 0.5, 0, 1)[..., None]
    return upper * (1 - t) + lower * t


def hills(rng: RNG, height: float, swing: float) -> np.ndarray:
    x = np.arange(SIZE) / SIZE
    a, b = rng.uniform(0, 6.3, 2)
    return height + swing * (np.sin(x * 5 + a) + 0.5 * np.sin(x * 9 + b))


def frame(rgb: np.ndarray) -> Frame:
    """The whole picture, in px from its upper left corner."""
    return Frame(Canvas(rgb), 0, 0, 1.0, reach=(0, 0, SIZE, SIZE))


def flat(f: Frame, d: np.ndarray, rgb: tuple, soft: float = 1.0, amount: float = 1.0) -> None:
    f.blend(np.clip(0.5 - d / soft, 0, 1) * amount, np.asarray(rgb, np.float32))


def cloud(f: Frame, rng: RNG, cx: float, cy: float, rgb: tuple) -> None:
    for dx, r in ((-11, 6), (0, 9), (11, 7)):
        flat(f, ellipse(f.x, f.y, cx + dx, cy - r / 3, r + 5, r), rgb, 3)


def beach(rng: RNG) -> np.ndarray:
    h = rng.uniform(38, 50)
    sky = gradient((0.42, 0.72, 0.97), (0.80, 0.92, 1.0), 0, h)
    sea = gradient((0.08, 0.45, 0.72), (0.30, 0.75, 0.82), h, h + 26)
    rgb = split(sky, sea, h)
    rgb = split(rgb, gradient((1, 1, 1), (1, 1, 1)), hills(rng, h + 22, 2))
    rgb = split(
        rgb, gradient((0.93, 0.82, 0.57), (0.97, 0.88, 0.66), h, 128), hills(rng, h + 26, 2)
    )
    f = frame(rgb)
    flat(f, circle(f.x, f.y, rng.choice([22, 106]), rng.uniform(14, 22), 10), (1, 0.93, 0.55), 2)
    return rgb


def snow(rng: RNG) -> np.ndarray:
    h = rng.uniform(50, 62)
    rgb = gradient((0.66, 0.76, 0.86), (0.86, 0.90, 0.95), 0, h)
    rgb = split(rgb, gradient((0.78, 0.85, 0.93), (0.9, 0.94, 1.0)), hills(rng, h - 16, 6))
    f = frame(rgb)
    for cx in (rng.uniform(6, 28), rng.uniform(100, 122)):
        for k in range(3):
            w, y = 9 + 4 * k, h - 30 + 11 * k
            flat(
                f,
                polygon(f.x, f.y, [(cx, y), (cx + w, y + 15), (cx - w, y + 15)]),
                (0.30, 0.46, 0.47),
            )
    rgb = split(rgb, gradient((0.93, 0.96, 1.0), (0.99, 1.0, 1.0), h, 128), hills(rng, h, 2))
    f = frame(rgb)
    for _ in range(9):
        flat(f, circle(f.x, f.y, rng.uniform(0, 128), rng.uniform(0, h), 2.2), (1, 1, 1), 2)
    return rgb


def rug(rng: RNG) -> np.ndarray:
    h = rng.uniform(54, 60)
    wall = gradient((0.90, 0.86, 0.78), (0.96, 0.93, 0.87), 0, h)
    rgb = split(wall, gradient((0.66, 0.47, 0.30), (0.74, 0.55, 0.37), h, 128), h)
    f = frame(rgb)
    flat(f, box(f.x, f.y, 64, h, 70, 2), (0.99, 0.98, 0.95))
    cy = rng.uniform(92, 98)
    for w, c in ((0, (0.42, 0.17, 0.58)), (6, (0.80, 0.62, 0.90)), (10, (0.53, 0.25, 0.70))):
        flat(f, ellipse(f.x, f.y, 64, cy, 66 - w, 31 - w * 0.6), c)
    wx = rng.choice([24, 104])
    flat(f, box(f.x, f.y, wx, 22, 15, 16, 2), (0.55, 0.40, 0.27))
    flat(f, box(f.x, f.y, wx, 22, 12, 13), (0.66, 0.86, 0.98))
    return rgb


def table(rng: RNG) -> np.ndarray:
    h = rng.uniform(58, 70)
    wall = gradient((0.45, 0.62, 0.60), (0.60, 0.74, 0.70), 0, h)
    rgb = split(wall, gradient((0.67, 0.42, 0.20), (0.84, 0.58, 0.31), h, 128), h)
    f = frame(rgb)
    for k in range(1, 4):
        y = h + (128 - h) * (k / 4) ** 1.3
        flat(f, np.abs(f.y - y) - 0.8, (0.50, 0.29, 0.13), 1.6)
    flat(f, np.abs(f.y - h) - 1.2, (0.45, 0.25, 0.11))
    cx = rng.choice([20, 108])
    flat(f, box(f.x, f.y, cx, 24, 13, 16), (0.93, 0.88, 0.76))
    flat(f, box(f.x, f.y, cx, 24, 10, 13), (0.36, 0.52, 0.55))
    return rgb


def grass(rng: RNG) -> np.ndarray:
    h = rng.uniform(46, 56)
    rgb = gradient((0.50, 0.78, 0.98), (0.84, 0.94, 1.0), 0, h)
    f = frame(rgb)
    cloud(f, rng, rng.uniform(20, 50), rng.uniform(14, 24), (1, 1, 1))
    cloud(f, rng, rng.uniform(80, 112), rng.uniform(14, 24), (1, 1, 1))
    rgb = split(rgb, gradient((0.50, 0.74, 0.30), (0.36, 0.66, 0.22), h, 128), hills(rng, h, 2.5))
    f = frame(rgb)
    for k in range(7):
        cx, cy = rng.uniform(4, 124), rng.uniform(h + 16, 124)
        flat(f, circle(f.x, f.y, cx, cy, 2.4), ((1, 1, 1), (1, 0.85, 0.2))[k % 2], 1.6)
    return rgb


def forest(rng: RNG) -> np.ndarray:
    h = rng.uniform(80, 88)
    rgb = gradient((0.10, 0.28, 0.20), (0.30, 0.50, 0.32), 0, h)
    f = frame(rgb)
    for k in range(5):
        cx = 8 + 28 * k + rng.uniform(-6, 6)
        w = rng.uniform(3.5, 5.5)
        flat(f, box(f.x, f.y, cx, 50, w, 60), (0.26, 0.18, 0.12), 1.6)
    for k in range(7):
        cx = 4 + 20 * k + rng.uniform(-5, 5)
        flat(f, circle(f.x, f.y, cx, rng.uniform(0, 12), 17), (0.07, 0.33, 0.17), 2)
    return split(rgb, gradient((0.20, 0.34, 0.14), (0.28, 0.42, 0.17), h, 128), hills(rng, h, 1.5))


def night(rng: RNG) -> np.ndarray:
    h = rng.uniform(78, 88)
    rgb = gradient((0.03, 0.04, 0.18), (0.16, 0.16, 0.42), 0, h)
    f = frame(rgb)
    mx, my = rng.choice([20, 108]), rng.uniform(16, 24)
    flat(f, circle(f.x, f.y, mx, my, 20), (0.5, 0.5, 0.75), 22, 0.5)
    flat(f, circle(f.x, f.y, mx, my, 11), (0.98, 0.96, 0.82), 2)
    for _ in range(9):
        flat(f, circle(f.x, f.y, rng.uniform(0, 128), rng.uniform(0, 70), 1.3), (0.95, 0.95, 1), 2)
    return split(rgb, gradient((0.07, 0.10, 0.16), (0.12, 0.16, 0.22), h, 128), hills(rng, h, 2))


def desert(rng: RNG) -> np.ndarray:
    h = rng.uniform(54, 64)
    rgb = gradient((0.98, 0.78, 0.45), (1.0, 0.92, 0.70), 0, h)
    rgb = split(rgb, gradient((0.80, 0.50, 0.28), (0.85, 0.55, 0.30)), hills(rng, h - 8, 4))
    rgb = split(rgb, gradient((0.90, 0.62, 0.33), (0.82, 0.52, 0.26), h, 128), hills(rng, h + 4, 3))
    f = frame(rgb)
    cx = rng.choice([16, 112])
    for d in (
        capsule(f.x, f.y, cx, h - 26, cx, h + 10, 4),
        capsule(f.x, f.y, cx, h - 4, cx + 9, h - 6, 2.6),
        capsule(f.x, f.y, cx + 9, h - 6, cx + 9, h - 15, 2.6),
    ):
        flat(f, d, (0.24, 0.48, 0.25), 1.4)
    return rgb


def city(rng: RNG) -> np.ndarray:
    h = rng.uniform(80, 88)
    rgb = gradient((0.72, 0.77, 0.82), (0.88, 0.90, 0.91), 0, h)
    f = frame(rgb)
    x = -4.0
    while x < 128:
        w, top = rng.uniform(24, 34), rng.uniform(8, 40)
        g = rng.uniform(0.42, 0.62)
        flat(f, box(f.x, f.y, x + w / 2, 70, w / 2 - 0.5, 70 - top), (g, g * 0.97, g * 1.02))
        for wy in np.arange(top + 10, h - 6, 17):
            for wx in (x + w * 0.3, x + w * 0.7):
                flat(f, box(f.x, f.y, wx, wy, 3.6, 4.6), (0.98, 0.90, 0.58))
        x += w
    rgb = split(rgb, gradient((0.36, 0.37, 0.40), (0.46, 0.47, 0.50), h, 128), h)
    f = frame(rgb)
    flat(f, np.abs(f.y - h) - 2, (0.75, 0.75, 0.74))
    for cx in (20, 64, 108):
        flat(f, box(f.x, f.y, cx, 119, 11, 1.6), (0.95, 0.93, 0.80))
    return rgb


def sunset(rng: RNG) -> np.ndarray:
    h = rng.uniform(58, 70)
    rgb = gradient((0.36, 0.16, 0.46), (0.99, 0.50, 0.28), 0, h)
    f = frame(rgb)
    cx = rng.uniform(30, 98)
    flat(f, circle(f.x, f.y, cx, h - 4, 26), (1, 0.8, 0.45), 18, 0.6)
    flat(f, circle(f.x, f.y, cx, h - 4, 17), (1, 0.88, 0.52), 2)
    rgb = split(rgb, gradient((0.46, 0.22, 0.42), (0.16, 0.10, 0.28), h, 128), h)
    f = frame(rgb)
    for k in range(4):
        flat(f, box(f.x, f.y, cx, h + 6 + 9 * k, 15 - 3 * k, 1.4), (1, 0.66, 0.40), 1.5, 0.8)
    return rgb


def studio(rng: RNG) -> np.ndarray:
    g = float(rng.choice([1.0, 1.0, 0.0, 0.5, 0.85]))
    return gradient((g, g, g), (g, g, g))


DRAW: dict[str, Callable[[RNG], np.ndarray]] = {
    "beach": beach,
    "snow": snow,
    "rug": rug,
    "table": table,
    "grass": grass,
    "forest": forest,
    "night": night,
    "desert": desert,
    "city": city,
    "sunset": sunset,
    "studio": studio,
}
BACKGROUNDS = list(DRAW)


@cache
def background(name: str, variant: int) -> np.ndarray:
    """(128, 128, 3) float32; do not write into it."""
    rng = np.random.default_rng([BACKGROUNDS.index(name), variant])
    return np.clip(DRAW[name](rng), 0, 1).astype(np.float32)
