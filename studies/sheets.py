"""Labelled sheets: what was learned from on the left, prompts on top, scores under each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

TILE = 128
GAP = 8
LABEL = 150
LINE = 14
INK, FAINT, PAPER = "#222222", "#777777", "#ffffff"


@dataclass(frozen=True)
class Row:
    """Pictures (height, width, 3) in 0..1; a row without references goes on with those above.

    captions: one under each picture; where there are fewer, the rest have none
    """

    title: str
    pictures: Sequence[Tensor]
    captions: Sequence[str] = ()
    references: Sequence[Tensor] = field(default_factory=tuple)


def to_image(picture: Tensor) -> Image.Image:
    """(height, width, 3) in 0..1 as an 8-bit picture."""
    return Image.fromarray(np.asarray(picture.clamp(0, 1).mul(255).round().byte()))


def draw_sheet(title: str, columns: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    """One sheet of all rows under the titles of their columns."""
    if not rows:
        raise ValueError("A sheet needs at least one row of pictures.")
    font, large = ImageFont.load_default(11), ImageFont.load_default(16)
    heads = [wrap(column, font, TILE) for column in columns]
    top = 3 * GAP + 20 + LINE * max((len(lines) for lines in heads), default=0)
    left = 2 * GAP + max(LABEL, 2 * TILE + GAP if any(r.references for r in rows) else 0)
    height = TILE + 2 * GAP + (LINE if any(row.captions for row in rows) else 0)
    across = max(len(columns), *(len(row.pictures) for row in rows))
    sheet = Image.new(
        "RGB", (left + across * (TILE + GAP) + GAP, top + len(rows) * height + GAP), PAPER
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, INK, large)
    for n, lines in enumerate(heads):
        for k, line in enumerate(lines):
            y = top - GAP - LINE * (len(lines) - k)
            draw.text((left + n * (TILE + GAP), y), line, INK, font)
    for n, row in enumerate(rows):
        _draw_row(sheet, draw, row, left, top + n * height, font)
    return sheet


def _draw_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    row: Row,
    left: int,
    y: int,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    text_left = GAP
    if row.references:
        _draw_references(sheet, row.references, GAP, y)
        text_left = GAP + TILE + GAP
    elif left > 2 * GAP + LABEL:
        text_left = left - GAP - TILE
    for k, line in enumerate(wrap(row.title, font, left - GAP - text_left)):
        draw.text((text_left, y + LINE * k), line, INK, font)
    for n, picture in enumerate(row.pictures):
        x = left + n * (TILE + GAP)
        sheet.paste(_fitted(picture, TILE), (x, y))
        if n < len(row.captions):
            draw.text((x, y + TILE + 2), row.captions[n], FAINT, font)


def _draw_references(sheet: Image.Image, references: Sequence[Tensor], x: int, y: int) -> None:
    """One large, or up to four in a square."""
    if len(references) == 1:
        sheet.paste(_fitted(references[0], TILE), (x, y))
        return
    half = TILE // 2
    for n, picture in enumerate(references[:4]):
        sheet.paste(_fitted(picture, half - 1), (x + n % 2 * half, y + n // 2 * half))


def _fitted(picture: Tensor, side: int) -> Image.Image:
    image = to_image(picture)
    return image if image.size == (side, side) else image.resize((side, side))


def wrap(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than `width` pixels, where words allow."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
