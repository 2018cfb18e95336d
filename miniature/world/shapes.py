"""Signed distances of simple shapes: negative inside, in the units of the coordinates.

x and y are arrays of one shape (or broadcastable); every function returns an array of that shape.
"""

import numpy as np

Array = np.ndarray


def circle(x: Array, y: Array, cx: float, cy: float, r: float) -> Array:
    return np.hypot(x - cx, y - cy) - r


def ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """First-order distance, exact on the outline."""
    u, v = (x - cx) / rx, (y - cy) / ry
    k = np.sqrt(u * u + v * v)
    g = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
    return k * (k - 1.0) / np.maximum(g, 1e-4)


def box(x: Array, y: Array, cx: float, cy: float, hx: float, hy: float, r: float = 0.0) -> Array:
    """A rectangle of half sizes hx, hy with corners rounded by r."""
    dx = np.abs(x - cx) - (hx - r)
    dy = np.abs(y - cy) - (hy - r)
    return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - r


def capsule(
    x: Array,
    y: Array,
    ax: float,
    ay: float,
    bx: float,
    by: float,
    r: float,
    r2: float | None = None,
) -> Array:
    """A line from a to b, as thick as r at a and r2 (default r) at b."""
    dx, dy = bx - ax, by - ay
    t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    d = np.hypot(x - ax - t * dx, y - ay - t * dy)
    return d - (r if r2 is None else r + (r2 - r) * t)


def polygon(x: Array, y: Array, points: list[tuple[float, float]], r: float = 0.0) -> Array:
    """A convex polygon, points clockwise on screen (y down), corners rounded by r."""
    d = None
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        ex, ey = bx - ax, by - ay
        n = (ex * ex + ey * ey) ** 0.5
        e = ((x - ax) * ey - (y - ay) * ex) / n + r
        d = e if d is None else np.maximum(d, e)
    assert d is not None
    return d - r


def ring(d: Array, w: float) -> Array:
    """The band of half width w around the outline of d."""
    return np.abs(d) - w


def heart(x: Array, y: Array, cx: float, cy: float, r: float) -> Array:
    a = circle(x, y, cx - 0.45 * r, cy - 0.25 * r, 0.55 * r)
    b = circle(x, y, cx + 0.45 * r, cy - 0.25 * r, 0.55 * r)
    c = polygon(
        x,
        y,
        [
            (cx - 0.93 * r, cy + 0.02 * r),
            (cx, cy - 0.5 * r),
            (cx + 0.93 * r, cy + 0.02 * r),
            (cx, cy + r),
        ],
    )
    return np.minimum(np.minimum(a, b), c)


def star(x: Array, y: Array, cx: float, cy: float, r: float, points: int = 5) -> Array:
    """A star with blunt tips: the radius swings with the angle."""
    u, v = x - cx, y - cy
    rho = np.hypot(u, v)
    a = np.arctan2(u, -v) * points / (2 * np.pi)
    tri = np.abs(a - np.round(a)) * 2  # 0 at a tip, 1 between two
    return (rho - r * (1.05 - 0.6 * tri)) * 0.8
