"""A labelled grid of pictures, such as a comparison: rows and columns with their names."""

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .fonts import font_for, letters_in

MARGIN, GAP = 24, 8
LABEL = 170
"""Width of the names of rows."""
LARGEST_CELL, SMALLEST_CELL = 384, 128
"""Sides of a picture in the grid: larger ones are made smaller, small ones larger."""
LINE_HEIGHT = 19
FONT, LINES = 15, 4
INK, SOFT = "#1c2733", "#6b7785"


def labelled_grid(
    pictures: Tensor,
    rows: Sequence[Sequence[str]],
    columns: Sequence[str],
    captions: Sequence[str] = (),
) -> Tensor:
    """One picture of many, (1, H, W, 3) in 0..1.

    pictures: (N, h, w, 3) in 0..1, row by row, N up to R * C
    rows: the lines beside each row; columns: the text above each column; empty ones take no room
    captions: a line below each picture, none for no line
    """
    size = _tile_size(pictures.shape[2], pictures.shape[1])
    heads = [_wrapped(text, size[0]) if text else [] for text in columns]
    top = MARGIN + max(map(len, heads)) * LINE_HEIGHT + GAP
    down = size[1] + GAP + (LINE_HEIGHT if captions else 0)
    left = MARGIN + (LABEL if any(rows) else 0)
    page = Image.new(
        "RGB",
        (left + len(columns) * (size[0] + GAP) + MARGIN, top + len(rows) * down + MARGIN),
        "white",
    )
    draw = ImageDraw.Draw(page)
    for column, lines in enumerate(heads):
        x = left + column * (size[0] + GAP)
        _write(draw, (x, top - GAP - len(lines) * LINE_HEIGHT), lines)
    for row, lines in enumerate(rows):
        _write(
            draw, (MARGIN, top + row * down), [p for line in lines for p in _wrapped(line, LABEL)]
        )
    for number, picture in enumerate(pictures):
        row, column = divmod(number, len(columns))
        x, y = left + column * (size[0] + GAP), top + row * down
        page.paste(_image(picture).resize(size, Image.Resampling.LANCZOS), (x, y))
        if captions:
            draw.text((x, y + size[1] + 2), captions[number], SOFT, font_for(captions[number], 13))
    return torch.from_numpy(np.asarray(page, dtype=np.float32) / 255.0)[None]


def _tile_size(width: int, height: int) -> tuple[int, int]:
    longest = max(width, height)
    scale = min(max(longest, SMALLEST_CELL), LARGEST_CELL) / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().cpu().numpy())


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of a width in pixels; what does not fit ends with dots."""
    letters = letters_in(text, width, FONT)
    return textwrap.wrap(text, letters, max_lines=LINES, placeholder=" ...") or [""]


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        where = at[0], at[1] + number * LINE_HEIGHT
        draw.text(where, line, SOFT if number else INK, font_for(line, FONT))
