"""A picture that shapes are painted on, each only inside the box it needs."""

from dataclasses import dataclass, field

import numpy as np

SIZE = 128


@dataclass
class Canvas:
    """rgb: (128, 128, 3) float32 in 0..1; mask: (128, 128), 1 where the subject shows."""

    rgb: np.ndarray
    mask: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.float32))


class Frame:
    """Coordinates of a thing: its own axes, scaled by `scale` px, turned and perhaps mirrored.

    x, y: arrays over the box that the thing needs, in units of the thing; sx, sy: picture axes in
    the same units, for light, which does not turn with the thing.
    """

    def __init__(
        self,
        canvas: Canvas,
        cx: float,
        cy: float,
        scale: float,
        angle: float = 0.0,
        mirror: bool = False,
        reach: tuple[float, float, float, float] = (-1.3, -1.3, 1.3, 1.3),
    ) -> None:
        x0 = int(max(0, np.floor(cx + reach[0] * scale)))
        y0 = int(max(0, np.floor(cy + reach[1] * scale)))
        x1 = int(min(SIZE, np.ceil(cx + reach[2] * scale)))
        y1 = int(min(SIZE, np.ceil(cy + reach[3] * scale)))
        self.canvas, self.scale, self.is_subject = canvas, scale, False
        self.window = np.s_[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        sx = (np.arange(x0, max(x1, x0 + 1), dtype=np.float32) + 0.5 - cx) / scale
        sy = (np.arange(y0, max(y1, y0 + 1), dtype=np.float32) + 0.5 - cy) / scale
        self.sx, self.sy = np.broadcast_arrays(sx[None, :], sy[:, None])
        if angle:
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            self.x, self.y = sx[None, :] * c + sy[:, None] * s, sy[:, None] * c - sx[None, :] * s
        else:
            self.x, self.y = self.sx, self.sy
        if mirror:
            self.x = -self.x
        self.light = np.clip(1.06 - 0.20 * (self.sx * 0.55 + self.sy), 0.78, 1.22)

    def cover(self, d: np.ndarray, grow: float = 0.0) -> np.ndarray:
        """Coverage of each pixel by the shape at distance d, grown by `grow` px."""
        return np.clip(0.5 + grow - d * self.scale, 0.0, 1.0)

    def blend(self, alpha: np.ndarray, colour: np.ndarray) -> None:
        """Lay colour, (3,) or (h, w, 3), over the picture where alpha (h, w) is 1."""
        area = self.canvas.rgb[self.window]
        area += alpha[..., None] * (colour - area)

    def paint(
        self,
        d: np.ndarray,
        colour: np.ndarray,
        outline: float = 1.1,
        shade: float = 0.20,
        subject: bool | None = None,
    ) -> None:
        """Fill a shape with light, a soft dark rim and an outline (px; 0: none).

        subject: whether the mask shows the shape or loses what it hides; else as `is_subject` says.
        """
        subject = self.is_subject if subject is None else subject
        outer = self.cover(d, outline)
        rows, cols = np.flatnonzero(outer.any(1)), np.flatnonzero(outer.any(0))
        if not len(rows):
            return
        part = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        outer, d = outer[part], d[part]
        light = self.light[part] * (
            1.0 - shade * np.clip(1.0 + d * (self.scale / 9.0), 0.0, 1.0) ** 2
        )
        if outline:
            light *= 0.30 + 0.70 * self.cover(d, -0.4)
        colour = np.asarray(colour, np.float32)
        fill = np.minimum((colour if colour.ndim == 1 else colour[part]) * light[..., None], 1.0)
        area = self.canvas.rgb[self.window][part]
        area += outer[..., None] * (fill - area)
        marked = self.canvas.mask[self.window][part]
        marked += outer * ((1.0 if subject else 0.0) - marked)

    def glaze(self, alpha: np.ndarray, colour: tuple[float, float, float], amount: float) -> None:
        """A see-through colour, as for shadows and highlights; leaves the mask alone."""
        self.blend(alpha * amount, np.asarray(colour, np.float32))
