"""Faces: head and shoulders, drawn from the features of a Face."""

import numpy as np

from .canvas import Frame
from .individuals import Face
from .palette import CHARCOAL, EYES, HAIRS, SKINS
from .shapes import box, capsule, circle, ellipse, polygon, ring

EXPRESSIONS = ["neutral", "smiling", "sad", "angry", "surprised"]
TURN = {"front": 0.0, "left": -0.17, "right": 0.17}
INK = np.array((0.13, 0.09, 0.09), np.float32)


def skin_colour(face: Face) -> np.ndarray:
    k = min(int(face.skin), len(SKINS) - 2)
    a, b = np.asarray(SKINS[k]), np.asarray(SKINS[k + 1])
    return (a + (b - a) * (face.skin - k)).astype(np.float32)


def draw_person(
    f: Frame, face: Face, shirt: np.ndarray, pose: str, expression: str, glasses: bool
) -> None:
    """Frame: unit about half the height of the head, origin between nose and eyes."""
    f.is_subject = True
    x, y, t = f.x, f.y, TURN[pose]
    skin, hair = skin_colour(face), np.asarray(HAIRS[face.hair], np.float32)
    w = face.width
    head = np.minimum(
        ellipse(x, y, 0, -0.12, w, 0.62),
        ellipse(x, y, 0.3 * t, 0.20, w * (0.76 + 0.18 * face.jaw), 0.54),
    )
    hair_behind(f, face, hair, w, t)
    f.paint(box(x, y, 0, 1.45, 0.95, 0.52, 0.36), shirt)
    f.paint(capsule(x, y, 0, 0.5, 0, 0.92, 0.24), skin * 0.88)
    for side in (-1, 1):
        if side * t <= 0:
            f.paint(ellipse(x, y, side * (w + 0.02), 0.05, face.ears, 0.17), skin * 0.95)
    f.paint(head, skin)
    if face.beard == "beard":
        low = np.maximum(head + 0.01, 0.30 - y)
        f.paint(np.maximum(low, 0.10 - np.hypot(x - t, (y - 0.42) * 1.4)), hair * 0.9, 0)
    if face.freckles:
        for side in (-1, 1):
            for dx, dy in ((-0.08, 0), (0.08, 0), (0, 0.08)):
                f.paint(circle(x, y, t + side * 0.30 + dx, 0.22 + dy, 0.028), skin * 0.68, 0)
    if face.mole:
        f.paint(circle(x, y, t + face.mole * 0.28, 0.36, 0.042), INK, 0)
    features(f, face, skin, hair, t, expression)
    hair_front(f, face, hair, w, t)
    f.is_subject = False
    if glasses:
        draw_glasses(f, face, t)


def hair_behind(f: Frame, face: Face, hair: np.ndarray, w: float, t: float) -> None:
    x, y = f.x, f.y
    if face.style == "long":
        f.paint(box(x, y, -t * 0.6, 0.25, w + 0.20, 0.98, 0.45), hair)
    elif face.style == "bob":
        f.paint(box(x, y, -t * 0.6, -0.08, w + 0.20, 0.68, 0.40), hair)
    elif face.style == "curly":
        for k in range(7):
            a = np.pi * (0.96 + 1.08 * k / 6)
            f.paint(circle(x, y, np.cos(a) * (w + 0.10), -0.16 + np.sin(a) * 0.60, 0.27), hair)
    elif face.style == "bun":
        f.paint(circle(x, y, -t * 0.8, -0.88, 0.25), hair)


def hair_front(f: Frame, face: Face, hair: np.ndarray, w: float, t: float) -> None:
    x, y = f.x, f.y
    if face.style == "bald":
        return
    cap = ellipse(x, y, 0, -0.14, w + 0.05, 0.70)
    line = {
        "short": -0.42,
        "long": -0.46,
        "bob": -0.34,
        "curly": -0.46,
        "spiky": -0.46,
        "bun": -0.48,
    }
    edge = y - line[face.style] - 0.22 * (x - t) * (1 if face.style in ("short", "long") else 0)
    f.paint(np.maximum(cap, edge), hair)
    if face.style == "spiky":
        for k in range(5):
            cx = (k - 2) * 0.24
            top = -1.02 + 0.05 * abs(k - 2)
            f.paint(
                polygon(x, y, [(cx - 0.17, -0.58), (cx + 0.05, top), (cx + 0.17, -0.58)]),
                hair,
            )


def features(
    f: Frame, face: Face, skin: np.ndarray, hair: np.ndarray, t: float, expression: str
) -> None:
    x, y = f.x, f.y
    wide = {"surprised": 1.25, "angry": 0.85, "smiling": 0.95}.get(expression, 1.0)
    tilt = {"angry": 0.10, "sad": -0.10}.get(expression, 0.0)
    lift = {"surprised": -0.10, "angry": 0.05, "sad": -0.03}.get(expression, 0.0)
    iris = np.asarray(EYES[face.eyes], np.float32)
    brow = hair * 0.6 if face.hair not in ("white", "blond") else hair * 0.75
    for side in (-1, 1):
        ex, ey = t * 1.25 + side * face.spacing, -0.06
        f.paint(
            ellipse(x, y, ex, ey, face.eye_size * 1.25, face.eye_size * 1.1 * wide),
            np.ones(3),
            0.8,
            0,
        )
        f.paint(circle(x, y, ex + t * 0.2, ey, face.eye_size * 0.74), iris, 0, 0)
        f.paint(circle(x, y, ex + t * 0.2, ey, face.eye_size * 0.40), INK, 0, 0)
        by = -0.26 + lift
        inner, outer = by + tilt, by - tilt
        f.paint(capsule(x, y, ex - side * 0.12, inner, ex + side * 0.13, outer, face.brow), brow, 0)
    f.paint(
        capsule(x, y, t * 1.6, 0.02, t * 1.75, 0.10 + face.nose, 0.055, 0.085), skin * 0.80, 0, 0
    )
    if face.beard != "none":
        f.paint(capsule(x, y, t * 1.35 - 0.15, 0.33, t * 1.35 + 0.15, 0.33, 0.065), hair * 0.9, 0)
    draw_mouth(f, t * 1.35, 0.42, face.mouth, expression)


def draw_mouth(f: Frame, cx: float, cy: float, m: float, expression: str) -> None:
    x, y = f.x - cx, f.y - cy
    red = np.array((0.66, 0.20, 0.22), np.float32)
    if expression == "smiling":
        d = np.maximum(ellipse(x, y, 0, -0.02, m * 1.45, 0.24), -y - 0.02)
        f.paint(d, red, 0.9, 0)
        f.paint(np.maximum(d + 0.03, y - 0.07), np.ones(3), 0, 0)
    elif expression == "surprised":
        f.paint(ellipse(x, y, 0, 0.06, 0.14, 0.18), red * 0.6, 0.9, 0)
    elif expression == "sad":
        f.paint(
            np.maximum(ring(ellipse(x, y, 0, 0.19, m * 1.2, 0.20), 0.05), y - 0.14),
            red * 0.8,
            0.4,
            0,
        )
    elif expression == "angry":
        f.paint(box(x, y, 0, 0.03, m * 1.15, 0.085, 0.05), np.ones(3) * 0.95, 1.2, 0)
        f.paint(box(x, y, 0, 0.03, m * 1.15, 0.018), INK, 0, 0)
    else:
        f.paint(capsule(x, y, -m, 0.02, m, 0.02, 0.045), red * 0.85, 0.3, 0)


def draw_glasses(f: Frame, face: Face, t: float) -> None:
    x, y = f.x, f.y
    rim = np.asarray(CHARCOAL, np.float32)
    for side in (-1, 1):
        d = circle(x, y, t * 1.25 + side * face.spacing, -0.05, 0.20)
        f.glaze(f.cover(d), (0.80, 0.93, 1.0), 0.35)
        f.paint(ring(d, 0.035), rim, 0)
    f.paint(capsule(x, y, t * 1.25 - 0.05, -0.06, t * 1.25 + 0.05, -0.06, 0.03), rim, 0)
