"""Scenes to pictures."""

import numpy as np

from .backgrounds import background
from .canvas import Canvas, Frame
from .objects import DRAW, GROUND, HAT_SEAT, Brush, draw_hat
from .palette import COLOURS
from .people import draw_person
from .scene import Scene
from .shapes import box, capsule, circle, ellipse

UNIT = 41.0
ZOOM = {"medium": 1.0, "close": 1.36, "far": 0.66}
ANGLE = {"right": 0.0, "left": 0.0, "lying": np.pi / 2, "upside down": np.pi}


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Picture (128, 128, 3) and mask (128, 128), uint8; 255 where the subject shows."""
    canvas = Canvas(background(scene.background, scene.variant) * np.float32(scene.brightness))
    if scene.kind == "person":
        paint_person(canvas, scene)
    else:
        paint_object(canvas, scene)
    rgb = np.clip(canvas.rgb * 255 + 0.5, 0, 255).astype(np.uint8)
    return rgb, np.clip(canvas.mask * 255 + 0.5, 0, 255).astype(np.uint8)


def paint_person(canvas: Canvas, scene: Scene) -> None:
    assert scene.face is not None
    cx, cy = 64 + 5 * scene.shift[0], 64 + 4 * scene.shift[1]
    f = Frame(canvas, cx, cy, 46 * scene.scale, scene.tilt * 0.5, reach=(-1.2, -1.45, 1.2, 1.7))
    shirt = np.asarray(COLOURS[scene.colour], np.float32)
    draw_person(f, scene.face, shirt, scene.pose, scene.expression, scene.glasses)
    if scene.hat:
        draw_hat(f, np.asarray(COLOURS[scene.hat], np.float32), 0.0, -0.52, 0.66)


def paint_object(canvas: Canvas, scene: Scene) -> None:
    assert scene.thing is not None
    zoom = ZOOM[scene.size] * scene.scale
    unit = UNIT * zoom
    side = scene.other_side if scene.other else 0
    ground = GROUND[scene.kind]
    low = {"lying": 0.86, "upside down": 0.92}.get(scene.pose, ground)
    cx = 64 + 5 * scene.shift[0] - 15 * side
    cy = 108 + 4 * scene.shift[1] - low * unit if scene.size != "close" else 68 + 3 * scene.shift[1]
    if scene.hat and scene.size != "close":
        cy += 4
    shadow(canvas, cx + 2, cy + low * unit, 0.92 * unit, scene)
    if scene.state == "wet":
        puddle(canvas, cx, cy + low * unit, unit)
    if scene.other:
        paint_other(canvas, scene, 64 + 42 * side + 2 * scene.shift[1], 106 + 4 * scene.shift[1])
    angle = ANGLE[scene.pose] + scene.tilt
    f = Frame(canvas, cx, cy, unit, angle, scene.pose == "left")
    DRAW[scene.kind](Brush(f, scene.thing, scene.colour, scene.pattern))
    if scene.state != "dry":
        surface_state(f, scene)
    if scene.hat:
        paint_hat(canvas, scene, cx, cy, unit)


def shadow(canvas: Canvas, cx: float, cy: float, reach: float, scene: Scene) -> None:
    f = Frame(canvas, cx, cy, reach, reach=(-1.3, -0.4, 1.3, 0.4))
    d = np.hypot(f.x, f.y / 0.22)
    amount = 0.22 if scene.background in ("studio", "snow") else 0.40
    f.glaze(np.clip((1.15 - d) / 0.5, 0, 1), (0.05, 0.04, 0.10), amount)


def puddle(canvas: Canvas, cx: float, cy: float, unit: float) -> None:
    f = Frame(canvas, cx, cy, unit, reach=(-1.4, -0.4, 1.4, 0.5))
    f.paint(ellipse(f.x, f.y, 0, 0.05, 1.2, 0.26), np.array((0.45, 0.72, 0.92)), 0.8, 0)
    f.paint(ellipse(f.x, f.y, -0.55, 0.0, 0.34, 0.06), np.array((0.85, 0.95, 1.0)), 0, 0)


def surface_state(f: Frame, scene: Scene) -> None:
    inside = f.canvas.mask[f.window]
    if scene.state == "wet":
        f.glaze(inside, (0.25, 0.50, 0.80), 0.16)
        for dx, dy, r in (
            (-0.5, -0.15, 0.1),
            (0.1, 0.1, 0.12),
            (0.42, 0.42, 0.1),
            (-0.25, 0.5, 0.1),
            (0.85, 0.62, 0.09),
            (-0.9, 0.55, 0.09),
            (-0.85, -0.2, 0.09),
            (0.9, -0.1, 0.09),
        ):
            drop = np.minimum(
                circle(f.sx, f.sy, dx, dy, r),
                capsule(f.sx, f.sy, dx, dy - 2.2 * r, dx, dy, 0.01, 0.8 * r),
            )
            f.paint(drop, np.array((0.62, 0.86, 1.0)), 0.9, 0)
        return
    streak = np.abs(f.sx + f.sy * 0.9 + 0.25) - 0.13
    f.glaze(f.cover(streak) * inside, (1, 1, 1), 0.72)
    streak = np.abs(f.sx + f.sy * 0.9 + 0.0) - 0.045
    f.glaze(f.cover(streak) * inside, (1, 1, 1), 0.6)
    for dx, dy, r in ((0.78, -0.68, 0.34), (-0.85, 0.05, 0.24)):
        u, v = np.abs(f.sx - dx), np.abs(f.sy - dy)
        spark = np.clip(1.4 * (1 - (np.sqrt(u) + np.sqrt(v)) / np.sqrt(r)) * 2, 0, 1)
        f.glaze(spark, (1, 1, 0.92), 1.0)


def paint_hat(canvas: Canvas, scene: Scene, cx: float, cy: float, unit: float) -> None:
    """On the top of the object as it stands, whichever way it is turned."""
    x, y, size = HAT_SEAT[scene.kind]
    x = -x if scene.pose == "left" else x
    if scene.pose == "lying":
        x, y = 0.0, -0.62
    elif scene.pose == "upside down":
        x, y = 0.0, -0.66 * GROUND[scene.kind] / 0.76
    f = Frame(canvas, cx, cy, unit, scene.tilt * 0.5, reach=(-1.3, -1.9, 1.3, 0.6))
    rgb = np.asarray(COLOURS[scene.hat or "red"], np.float32)
    before = canvas.mask[f.window].copy()
    draw_hat(f, rgb, x, y, size)
    np.minimum(before, canvas.mask[f.window], out=canvas.mask[f.window])


def paint_other(canvas: Canvas, scene: Scene, cx: float, base: float) -> None:
    assert scene.other is not None
    kind, colour = scene.other
    rgb = np.asarray(COLOURS[colour], np.float32)
    f = Frame(canvas, cx, base - 15, 17, reach=(-1.4, -2.4, 1.4, 1.4))
    f.glaze(
        np.clip((1.15 - np.hypot(f.x, (f.y - 0.9) / 0.25)) / 0.5, 0, 1), (0.05, 0.04, 0.1), 0.35
    )
    if kind == "ball":
        f.paint(circle(f.x, f.y, 0, 0, 0.95), rgb)
        f.glaze(f.cover(ellipse(f.x, f.y, -0.35, -0.4, 0.22, 0.16)), (1, 1, 1), 0.7)
    elif kind == "box":
        f.paint(box(f.x, f.y, 0, 0.05, 0.90, 0.86), rgb)
        f.paint(box(f.x, f.y, 0, -0.72, 1.0, 0.20), rgb * 0.85)
        f.paint(box(f.x, f.y, 0, 0.08, 0.13, 0.84), np.minimum(rgb * 0.5 + 0.5, 1), 0)
    else:
        f.paint(capsule(f.x, f.y, 0, -0.6, 0, 0.95, 0.10), np.array((0.13, 0.50, 0.18)))
        f.paint(ellipse(f.x, f.y, 0.36, 0.45, 0.36, 0.15), np.array((0.16, 0.58, 0.22)))
        for k in range(5):
            a = k * 2 * np.pi / 5 - np.pi / 2
            f.paint(circle(f.x, f.y, 0.55 * np.cos(a), -1.1 + 0.55 * np.sin(a), 0.42), rgb, 0.9)
        f.paint(circle(f.x, f.y, 0, -1.1, 0.30), np.array((0.95, 0.75, 0.15)), 0.8)


def on_blank(rgb: np.ndarray, mask: np.ndarray, value: int = 255) -> np.ndarray:
    """The subject alone: everything outside the mask becomes an even grey (uint8)."""
    m = mask[..., None].astype(np.float32) / 255
    return (rgb * m + value * (1 - m) + 0.5).astype(np.uint8)
