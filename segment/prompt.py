"""Where the subject is: points and a box, as a user writes them or an editor node gives them."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..concepts.errors import PersonalizeError

Point = tuple[float, float]
Box = tuple[float, float, float, float]

_NUMBER = r"(-?\d+(?:\.\d+)?)\s*(%?)"
_PAIR = re.compile(rf"\(?\s*{_NUMBER}\s*[,\s]\s*{_NUMBER}\s*\)?")
_FOUR = re.compile(r"[(\[]?\s*" + r"\s*[,\s]\s*".join([_NUMBER] * 4) + r"\s*[)\]]?")
_BOX_TIP = (
    "Write left, top, right, bottom in pixels or per cent of the picture, such as 40, 60, 300, 420 "
    "or 10%, 10%, 90%, 90%."
)


@dataclass(frozen=True)
class Length:
    """A coordinate: pixels, or per cent of the picture's side."""

    value: float
    percent: bool = False

    def pixels(self, side: int) -> float:
        # 100 % is the last pixel, and 50 % the middle of the picture
        return self.value / 100 * (side - 1) if self.percent else self.value

    def __str__(self) -> str:
        return f"{self.value:g}{'%' if self.percent else ''}"


@dataclass(frozen=True)
class SegmentPrompt:
    """Points on the subject and beside it, and a box around it; empty: one centred subject."""

    positive: tuple[tuple[Length, Length], ...] = ()
    negative: tuple[tuple[Length, Length], ...] = ()
    box: tuple[Length, Length, Length, Length] | None = None

    @classmethod
    def parse(cls, positive: str = "", negative: str = "", box: str = "") -> "SegmentPrompt":
        """Read what stands in the node's fields. Raises PersonalizeError with the unread part."""
        return cls(parse_points(positive), parse_points(negative), parse_box(box))

    @property
    def ambiguous(self) -> bool:
        """Whether it could mean a part as well as the whole, so that SAM should offer several."""
        return self.box is None and len(self.positive) < 2 and not self.negative

    def at(self, width: int, height: int, number: int = 1) -> "PlacedPrompt":
        """In pixels of the picture of that number; raise for what lies outside of it."""
        where = f"picture {number} ({width}x{height})"
        positive = self.positive
        if not positive and self.box is None:
            positive = ((Length(50, True), Length(50, True)),)
        both = [(*point, 1) for point in positive] + [(*point, 0) for point in self.negative]
        return PlacedPrompt(
            tuple(_inside(x, y, width, height, where) for x, y, _ in both),
            tuple(label for *_, label in both),
            None if self.box is None else _clipped(self.box, width, height, where),
        )


@dataclass(frozen=True)
class PlacedPrompt:
    """A prompt in pixels of one picture; labels: 1 on the subject, 0 beside it."""

    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None


def parse_points(text: str) -> tuple[tuple[Length, Length], ...]:
    """Points "120, 80; 50%, 30%", a line or a semicolon between them, or the JSON of a points
    editor: [{"x": 120, "y": 80}, ...] or [[120, 80], ...]."""
    text = text.strip()
    if not text:
        return ()
    if text[0] in "[{":
        found = _json(text)
        points = [found] if isinstance(found, dict) else found
        if points and all(isinstance(n, int | float) for n in points):
            points = [points]
        return tuple(_point_of(point, text) for point in points)
    parts = [part.strip() for part in re.split(r"[;\n]", text)]
    return tuple(_pair(part) for part in parts if part)


def parse_box(text: str) -> tuple[Length, Length, Length, Length] | None:
    """A box "left, top, right, bottom", or JSON: [l, t, r, b], or {"x", "y", "width", "height"}."""
    text = text.strip()
    if not text:
        return None
    match = _FOUR.fullmatch(text)
    if match:
        numbers = match.groups()
        left, top, right, bottom = map(_length, numbers[::2], numbers[1::2])
        return left, top, right, bottom
    found = _json(text) if text[0] in "[{" else None
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, list) and len(found) == 4 and _numbers(found):
        left, top, right, bottom = (Length(float(n)) for n in found)
        return left, top, right, bottom
    if isinstance(found, dict):
        sides = [found.get(key) for key in ("x", "y", "width", "height")]
        if _numbers(sides):
            x, y, width, height = (float(side or 0) for side in sides)
            return Length(x), Length(y), Length(x + width), Length(y + height)
    raise PersonalizeError(f"The box '{_short(text)}' cannot be read. {_BOX_TIP}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return [None]  # refused with the others that are no points


def _point_of(found: Any, text: str) -> tuple[Length, Length]:
    pair: Any = [found.get("x"), found.get("y")] if isinstance(found, dict) else found
    if isinstance(pair, list) and len(pair) == 2 and _numbers(pair):
        return Length(float(pair[0])), Length(float(pair[1]))
    raise _unread_point(text)


def _pair(part: str) -> tuple[Length, Length]:
    match = _PAIR.fullmatch(part)
    if not match:
        raise _unread_point(part)
    x, x_sign, y, y_sign = match.groups()
    return _length(x, x_sign), _length(y, y_sign)


def _length(number: str, sign: str) -> Length:
    return Length(float(number), sign == "%")


def _numbers(values: Sequence[Any]) -> bool:
    plain = (isinstance(n, int | float) and not isinstance(n, bool) for n in values)
    return all(plain) and all(map(math.isfinite, values))


def _unread_point(text: str) -> PersonalizeError:
    return PersonalizeError(
        f"The points '{_short(text)}' cannot be read. Write x, y in pixels or per cent of the "
        "picture, with a semicolon between points, such as 120, 80; 50%, 30%."
    )


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _inside(x: Length, y: Length, width: int, height: int, where: str) -> Point:
    across, down = x.pixels(width), y.pixels(height)
    if not (0 <= across < width and 0 <= down < height):
        raise PersonalizeError(
            f"The point {x}, {y} lies outside of {where}: x goes from 0 to {width - 1}, y from 0 "
            f"to {height - 1}. Correct it, or write per cent, which fit pictures of every size."
        )
    return across, down


def _clipped(
    box: tuple[Length, Length, Length, Length], width: int, height: int, where: str
) -> Box:
    """The part of a box that lies in the picture: boxes of detectors may stick out a little."""
    given = ", ".join(map(str, box))
    sides = [one.pixels(side) for one, side in zip(box, (width, height) * 2, strict=True)]
    left, top, right, bottom = sides
    if right <= left or bottom <= top:
        raise PersonalizeError(
            f"The box {given} has no size in {where}: the right side must lie right of the left "
            f"one, and the bottom below the top. {_BOX_TIP}"
        )
    left, right = max(left, 0.0), min(right, width - 1.0)
    top, bottom = max(top, 0.0), min(bottom, height - 1.0)
    if right <= left or bottom <= top:
        raise PersonalizeError(f"The box {given} lies outside of {where}. {_BOX_TIP}")
    return left, top, right, bottom
