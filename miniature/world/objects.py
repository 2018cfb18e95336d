"""The objects: each is a few shapes in its own frame, facing right, about two units wide."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import Frame
from .individuals import Thing, emblem_colour, main_colour, second_colour, trim_colour
from .palette import CHARCOAL, CREAM
from .shapes import box, capsule, circle, ellipse, heart, polygon, ring, star

Array = np.ndarray
WHITE, INK, GLASS = (0.97, 0.97, 0.97), (0.10, 0.09, 0.11), (0.68, 0.87, 0.97)


@dataclass
class Brush:
    """Paints the parts of one object: main surface with its pattern, trims, details."""

    frame: Frame
    thing: Thing
    colour: str
    pattern: str

    def __post_init__(self) -> None:
        self.main = main_colour(self.thing, self.colour)
        self.second = second_colour(self.thing, self.main)
        self.trim_rgb = trim_colour(self.thing, self.main)
        self._surface: Array | None = None

    def surface(self) -> Array:
        if self._surface is None:
            amount = pattern(self.frame.x, self.frame.y, self.pattern, self.thing)
            if amount is None:
                self._surface = self.main
            else:
                self._surface = self.main + amount[..., None] * (self.second - self.main)
        return self._surface

    def body(self, d: Array) -> None:
        self.frame.paint(d, self.surface(), subject=True)

    def plain(self, d: Array, dark: float = 1.0) -> None:
        """A part in the main colour without the pattern."""
        self.frame.paint(d, self.main * dark, subject=True)

    def trim(self, d: Array) -> None:
        self.frame.paint(d, self.trim_rgb, subject=True)

    def detail(self, d: Array, rgb: tuple, outline: float = 0.6) -> None:
        self.frame.paint(d, np.asarray(rgb, np.float32), outline, 0.1, subject=True)

    def eye(self, cx: float, cy: float, r: float) -> None:
        f = self.frame
        self.detail(circle(f.x, f.y, cx, cy, r), WHITE)
        self.detail(circle(f.x, f.y, cx + 0.3 * r, cy, 0.58 * r), INK, 0)

    def emblem(self, cx: float, cy: float, size: float = 1.0) -> None:
        if self.thing.emblem is None or self.pattern != "plain":
            return
        f, r = self.frame, self.thing.emblem_size * size
        shapes = {
            "heart": lambda: heart(f.x, f.y, cx, cy, r),
            "star": lambda: star(f.x, f.y, cx, cy, r * 1.15),
            "disc": lambda: circle(f.x, f.y, cx, cy, r * 0.85),
            "diamond": lambda: np.abs(f.x - cx) * 0.8 + np.abs(f.y - cy) * 0.6 - r * 0.75,
            "cross": lambda: np.minimum(
                box(f.x, f.y, cx, cy, r, r * 0.36), box(f.x, f.y, cx, cy, r * 0.36, r)
            ),
        }
        self.detail(shapes[self.thing.emblem](), tuple(emblem_colour(self.thing, self.main)), 0.8)


def pattern(x: Array, y: Array, name: str, thing: Thing) -> Array | None:
    """How much of the second colour shows at each point, 0 to 1; None for a plain surface."""
    k = 1.8 * thing.frequency
    p, sharp = thing.phase, 5.0
    if name == "striped":
        wave = np.sin((y * k + p) * 2 * np.pi) - 0.25
    elif name == "checkered":
        wave = np.sin((x * k + p) * np.pi * 1.8) * np.sin((y * k + p) * np.pi * 1.8)
        sharp = 7.0
    elif name == "dotted":
        u, v = x * k * 1.05 + p, y * k * 1.05 + p
        u = u + 0.5 * np.floor(v)
        wave = 0.30 - np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5)
        sharp = 14.0
    elif name == "zigzag":
        u = x * k * 0.9
        tri = np.abs(u - np.floor(u) - 0.5)
        wave = np.sin((y * k * 0.85 + tri * 1.25 + p) * 2 * np.pi) - 0.15
    else:
        return None
    return np.clip(0.5 + sharp * wave, 0, 1).astype(np.float32)


def mug(b: Brush) -> None:
    f, (p, q, r, s) = b.frame, b.thing.shape
    hx, hy = 0.50 + 0.08 * p, 0.62 + 0.10 * q
    d = ring(ellipse(f.x, f.y, hx - 0.14, 0.05, 0.40, 0.36 + 0.06 * r), 0.11 + 0.03 * s)
    b.plain(d)
    b.body(box(f.x, f.y, -0.18, 0.08, hx, hy, 0.16))
    b.trim(ellipse(f.x, f.y, -0.18, 0.08 - hy + 0.05, hx, 0.17))
    b.detail(ellipse(f.x, f.y, -0.18, 0.08 - hy + 0.07, hx - 0.1, 0.10), (0.25, 0.16, 0.12), 0)
    b.emblem(-0.18, 0.2)


def ball(b: Brush) -> None:
    f, (p, q, _, _) = b.frame, b.thing.shape
    d = circle(f.x, f.y, 0, 0, 0.80)
    b.body(d)
    band = np.maximum(
        np.abs(f.y - 0.25 * f.x - 0.3 * p - 0.18 * f.x * f.x) - 0.08 - 0.03 * q, d + 0.03
    )
    if b.pattern == "plain":
        b.detail(band, tuple(b.trim_rgb), 0)
    b.emblem(0.1, -0.25 if p > 0 else 0.3)


def car(b: Brush) -> None:
    f, (p, q, r, s) = b.frame, b.thing.shape
    top = -0.55 - 0.08 * p
    cab = [(-0.62 - 0.06 * q, -0.02), (-0.50, top), (0.12 + 0.08 * q, top), (0.45, -0.02)]
    b.body(polygon(f.x, f.y, cab, 0.08))
    b.detail(box(f.x, f.y, -0.36, top / 2 - 0.03, 0.13, 0.14, 0.04), GLASS)
    b.detail(
        polygon(
            f.x,
            f.y,
            [
                (-0.14, top / 2 + 0.11),
                (-0.14, top / 2 - 0.17),
                (0.06, top / 2 - 0.17),
                (0.22, top / 2 + 0.11),
            ],
            0.03,
        ),
        GLASS,
    )
    b.body(box(f.x, f.y, 0, 0.18, 0.98, 0.30 + 0.03 * r, 0.16))
    b.detail(ellipse(f.x, f.y, 0.86, 0.10, 0.10, 0.10), (1.0, 0.95, 0.55))
    b.detail(box(f.x, f.y, -0.92, 0.10, 0.05, 0.09), (0.8, 0.1, 0.1))
    for cx in (-0.54, 0.54):
        b.detail(circle(f.x, f.y, cx, 0.48, 0.27 + 0.03 * s), CHARCOAL, 1.0)
        b.detail(circle(f.x, f.y, cx, 0.48, 0.13), tuple(b.trim_rgb), 0)
    b.emblem(0.05, 0.16, 0.75)


def house(b: Brush) -> None:
    f, (p, q, r, s) = b.frame, b.thing.shape
    b.detail(box(f.x, f.y, 0.42, -0.62, 0.11, 0.28), (0.55, 0.33, 0.27), 1.1)
    b.body(box(f.x, f.y, 0, 0.28, 0.66 + 0.05 * p, 0.50))
    peak = -0.88 - 0.10 * q
    b.trim(polygon(f.x, f.y, [(-0.92, -0.16), (0, peak), (0.92, -0.16)], 0.05))
    b.detail(box(f.x, f.y, 0.30, 0.50, 0.14, 0.27 + 0.03 * r), (0.40, 0.22, 0.13), 0.9)
    b.detail(box(f.x, f.y, -0.32, 0.18, 0.15 + 0.02 * s, 0.15), GLASS, 1.2)
    b.detail(circle(f.x, f.y, 0, -0.42, 0.11), GLASS, 1.0)


def duck(b: Brush) -> None:
    f, (p, q, r, s) = b.frame, b.thing.shape
    b.detail(
        capsule(f.x, f.y, 0.62, -0.40, 0.90 + 0.06 * s, -0.36, 0.13, 0.09), (0.96, 0.55, 0.10), 1.0
    )
    b.plain(polygon(f.x, f.y, [(-0.96, -0.15 - 0.1 * r), (-0.45, 0.0), (-0.45, 0.45)], 0.06))
    b.body(ellipse(f.x, f.y, -0.14, 0.30, 0.70, 0.46 + 0.05 * p))
    b.body(circle(f.x, f.y, 0.40, -0.40, 0.36 + 0.04 * q))
    b.eye(0.50, -0.48, 0.11)
    wing = ellipse(f.x, f.y, -0.28, 0.22, 0.27, 0.17)
    b.frame.paint(wing, b.trim_rgb, 0.9, subject=True)
    b.emblem(0.2, 0.35, 0.62)


def fish(b: Brush) -> None:
    f, (p, q, r, s) = b.frame, b.thing.shape
    b.trim(
        polygon(f.x, f.y, [(-1.0, -0.46 - 0.06 * r), (-0.42, 0.0), (-1.0, 0.46 + 0.06 * r)], 0.08)
    )
    b.trim(polygon(f.x, f.y, [(-0.30, -0.35), (-0.12, -0.80 - 0.08 * s), (0.38, -0.35)], 0.06))
    b.body(ellipse(f.x, f.y, 0.12, 0, 0.76, 0.50 + 0.06 * p))
    b.eye(0.54, -0.12, 0.12 + 0.02 * q)
    d = capsule(f.x, f.y, 0.66, 0.17, 0.80, 0.12, 0.03)
    b.detail(d, INK, 0)
    b.emblem(0.02, 0.04)


def dog(b: Brush) -> None:
    f, (p, q, r, s) = b.frame, b.thing.shape
    b.body(capsule(f.x, f.y, -0.62, 0.02, -0.92, -0.38 - 0.1 * r, 0.10, 0.07))
    for cx, dark in ((-0.36, 0.8), (0.40, 0.8), (-0.56, 1.0), (0.22, 1.0)):
        b.plain(capsule(f.x, f.y, cx, 0.30, cx, 0.72 + 0.06 * s, 0.115), dark)
    b.body(box(f.x, f.y, -0.14, 0.16, 0.62, 0.31 + 0.04 * p, 0.24))
    b.body(capsule(f.x, f.y, 0.50, -0.34, 0.86 + 0.05 * q, -0.24, 0.24, 0.15))
    b.body(circle(f.x, f.y, 0.46, -0.42, 0.32))
    b.trim(capsule(f.x, f.y, 0.28, -0.58, 0.16, -0.18, 0.13, 0.10))
    b.trim(capsule(f.x, f.y, 0.24, -0.08, 0.56, -0.06, 0.06))
    b.eye(0.56, -0.46, 0.09)
    b.detail(circle(f.x, f.y, 0.98 + 0.05 * q, -0.30, 0.085), INK, 0)
    b.emblem(-0.16, 0.16, 0.68)


def robot(b: Brush) -> None:
    f, (p, q, r, s) = b.frame, b.thing.shape
    b.trim(capsule(f.x, f.y, 0.48, 0.02, 0.86, -0.36 - 0.08 * s, 0.10))
    b.trim(capsule(f.x, f.y, -0.48, 0.02, -0.74, 0.36, 0.10))
    for cx in (-0.24, 0.24):
        b.trim(box(f.x, f.y, cx, 0.74, 0.14, 0.24, 0.06))
    b.trim(capsule(f.x, f.y, 0.0, -0.80, 0.0, -1.0, 0.045))
    b.detail(circle(f.x, f.y, 0.0, -1.0, 0.10), (0.95, 0.25, 0.2), 1.0)
    b.body(box(f.x, f.y, 0, 0.16, 0.50 + 0.05 * p, 0.42, 0.10))
    b.body(box(f.x, f.y, 0, -0.56, 0.42 + 0.05 * q, 0.28 + 0.03 * r, 0.10))
    b.eye(-0.10, -0.60, 0.11)
    b.eye(0.24, -0.60, 0.11)
    b.detail(box(f.x, f.y, 0.08, -0.40, 0.17, 0.035), INK, 0)
    b.emblem(0, 0.18)


def teapot(b: Brush) -> None:
    f, (p, q, r, s) = b.frame, b.thing.shape
    b.plain(ring(ellipse(f.x, f.y, -0.62, 0.10, 0.32 + 0.03 * r, 0.32), 0.085))
    b.plain(capsule(f.x, f.y, 0.40, 0.30, 0.94, -0.32 - 0.06 * s, 0.20, 0.09))
    b.body(ellipse(f.x, f.y, -0.06, 0.16, 0.66, 0.54 + 0.06 * p))
    b.trim(ellipse(f.x, f.y, -0.06, -0.38 - 0.05 * p, 0.36 + 0.04 * q, 0.12))
    b.trim(circle(f.x, f.y, -0.06, -0.58 - 0.05 * p, 0.12))
    b.emblem(-0.06, 0.2)


def boat(b: Brush) -> None:
    f, (p, q, r, _) = b.frame, b.thing.shape
    b.detail(capsule(f.x, f.y, -0.12, 0.35, -0.12, -0.98, 0.055), (0.50, 0.33, 0.18), 1.0)
    b.trim(polygon(f.x, f.y, [(-0.22, 0.12), (-0.72 - 0.06 * r, 0.12), (-0.22, -0.62)], 0.03))
    b.body(polygon(f.x, f.y, [(0.0, 0.16), (0.0, -0.92), (0.78 + 0.1 * p, 0.16)], 0.04))
    b.body(
        polygon(
            f.x, f.y, [(-0.86, 0.32), (0.98, 0.26), (0.62 + 0.06 * q, 0.80), (-0.60, 0.80)], 0.08
        )
    )
    b.emblem(0.22, -0.12, 0.7)


DRAW: dict[str, Callable[[Brush], None]] = {
    "mug": mug,
    "ball": ball,
    "car": car,
    "house": house,
    "duck": duck,
    "fish": fish,
    "dog": dog,
    "robot": robot,
    "teapot": teapot,
    "boat": boat,
}
OBJECTS = list(DRAW)
PATTERNS = ["plain", "striped", "dotted", "checkered", "zigzag"]

# Where a hat sits (x, y, size) and where the object ends below, in its own units.
HAT_SEAT = {
    "mug": (-0.18, -0.62, 0.50),
    "ball": (0.0, -0.74, 0.55),
    "car": (-0.2, -0.58, 0.48),
    "house": (0.0, -0.80, 0.45),
    "duck": (0.38, -0.72, 0.42),
    "fish": (0.30, -0.44, 0.42),
    "dog": (0.44, -0.70, 0.42),
    "robot": (0.0, -0.82, 0.48),
    "teapot": (-0.06, -0.55, 0.42),
    "boat": (-0.1, -0.92, 0.40),
}
GROUND = {
    "mug": 0.72,
    "ball": 0.80,
    "car": 0.76,
    "house": 0.78,
    "duck": 0.76,
    "fish": 0.56,
    "dog": 0.86,
    "robot": 0.98,
    "teapot": 0.72,
    "boat": 0.80,
}


def draw_hat(f: Frame, rgb: np.ndarray, cx: float, cy: float, size: float) -> None:
    """A hat with a brim, seated at (cx, cy)."""
    x, y = f.x - cx, f.y - cy
    crown = polygon(
        x,
        y,
        [
            (-0.62 * size, 0),
            (-0.50 * size, -1.05 * size),
            (0.50 * size, -1.05 * size),
            (0.62 * size, 0),
        ],
        0.08,
    )
    f.paint(crown, rgb)
    f.paint(
        np.maximum(np.abs(y + 0.22 * size) - 0.13 * size, crown + 0.02),
        np.asarray(CREAM) * 0.3 if rgb.sum() > 1.2 else np.asarray(CREAM),
        0,
    )
    f.paint(box(x, y, 0, 0.0, 1.05 * size, 0.13 * size, 0.12 * size), rgb)
