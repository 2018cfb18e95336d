"""The report picture: the scores as a table with bars, and the pictures they are about."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..pictures.fonts import font_for, letters_in
from ..pictures.grid import INK, SOFT
from .evaluate import CLIP_I, CLIP_T, IDENTITY, MEASURES, OVERALL, Evaluation
from .pictures import Picture

REPORT_WIDTH, PAGE_MARGIN = 960, 32
INSIDE = REPORT_WIDTH - 2 * PAGE_MARGIN
ROW = 34
TILE, TILE_GAP, CAPTION = 172, 9, 40
REFERENCE_TILE = 104
MOST = 40
"""Pictures of a sheet; of more, the first ones are shown."""

RULE, BAR, GOOD = "#e3e7eb", "#3a7ca5", "#2e8b57"


def draw_report(
    evaluation: Evaluation,
    generated: Sequence[Picture],
    references: Sequence[Picture],
    models: str = "",
) -> Image.Image:
    """A sheet 960 pixels wide: prompt, scores, references, generated pictures with their scores.

    models: a line that says what the scores were made with
    """
    parts = [
        _title(evaluation, len(generated), len(references)),
        _table(evaluation),
        _heading("references", len(references)),
        _sheet(references[:MOST], [], REFERENCE_TILE),
        _heading("generated", len(generated)),
        _sheet(generated[:MOST], _captions(evaluation), TILE),
        _line(models, 13, SOFT, 26),
    ]
    page = Image.new("RGB", (REPORT_WIDTH, 2 * PAGE_MARGIN + sum(p.height for p in parts)), "white")
    top = PAGE_MARGIN
    for part in parts:
        page.paste(part, (PAGE_MARGIN, top))
        top += part.height
    return page


def _title(evaluation: Evaluation, generated: int, references: int) -> Image.Image:
    prompts = list(dict.fromkeys(evaluation.prompts))
    told = f'"{prompts[0]}"' if len(prompts) == 1 else f"{len(prompts)} prompts"
    lines = textwrap.wrap(told, letters_in(told, INSIDE, 27))[:3]
    canvas = Image.new("RGB", (INSIDE, 34 * len(lines) + 34), "white")
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((0, 34 * number), line, INK, font_for(line, 27))
    counts = f"{_counted(generated, 'generated picture')}, {_counted(references, 'reference')}"
    draw.text((0, 34 * len(lines) + 2), counts, SOFT, font_for(counts, 15))
    return canvas


def _table(evaluation: Evaluation) -> Image.Image:
    """One row a score: name, mean, a bar from 0 to 1 with the range over the pictures, meaning."""
    names, left, right = list(evaluation.means), 232, 470
    canvas = Image.new("RGB", (INSIDE, ROW * len(names) + 14), "white")
    draw = ImageDraw.Draw(canvas)
    for number, name in enumerate(names):
        middle = ROW * number + ROW // 2
        draw.line([(0, middle + ROW // 2), (INSIDE, middle + ROW // 2)], RULE)
        draw.text((0, middle), name, INK, font_for(name, 17), anchor="lm")
        mean = f"{evaluation.means[name]:.4f}"
        draw.text((205, middle), mean, INK, font_for(mean, 19), anchor="rm")
        draw.rounded_rectangle([left, middle - 5, right, middle + 5], 5, RULE)
        end = left + (right - left) * min(max(evaluation.means[name], 0.0), 1.0)
        if end - left > 10:
            draw.rounded_rectangle([left, middle - 5, end, middle + 5], 5, _colour(name))
        _draw_range(draw, evaluation.per_picture[name], left, right, middle)
        draw.text(
            (right + 22, middle), MEASURES[name], SOFT, font_for(MEASURES[name], 14), anchor="lm"
        )
    return canvas


def _draw_range(
    draw: ImageDraw.ImageDraw, values: Sequence[float], left: float, right: float, middle: float
) -> None:
    ends = [left + (right - left) * min(max(v, 0.0), 1.0) for v in (min(values), max(values))]
    draw.line([(ends[0], middle), (ends[1], middle)], INK, 1)
    for end in ends:
        draw.line([(end, middle - 4), (end, middle + 4)], INK, 1)


def _sheet(
    pictures: Sequence[Picture], captions: Sequence[Sequence[str]], side: int
) -> Image.Image:
    columns = (INSIDE + TILE_GAP) // (side + TILE_GAP)
    height = side + TILE_GAP + (CAPTION if captions else 0)
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (INSIDE, rows * height + 6), "white")
    draw = ImageDraw.Draw(canvas)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        x, y = column * (side + TILE_GAP), row * height
        canvas.paste(_tile(picture, side), (x, y))
        for line, text in enumerate(captions[number] if captions else ()):
            draw.text(
                (x, y + side + 4 + 16 * line), text, SOFT if line else INK, font_for(text, 13)
            )
    return canvas


def _tile(picture: Picture, side: int) -> Image.Image:
    """The whole picture in a square."""
    image = picture.image
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    tile = Image.new("RGB", (side, side), "#f3f5f7")
    resized = image.resize((width, height), Image.Resampling.LANCZOS)
    tile.paste(resized, ((side - width) // 2, (side - height) // 2))
    return tile


def _captions(evaluation: Evaluation) -> list[list[str]]:
    """The lines under each picture."""
    shown = [n for n in (CLIP_T, CLIP_I, OVERALL, IDENTITY) if n in evaluation.per_picture]
    first, second = shown[:2], shown[2:]
    captions = []
    for number in range(len(evaluation.prompts)):
        values = {name: evaluation.per_picture[name][number] for name in shown}
        lines = [
            "   ".join(f"{name} {values[name]:.3f}" for name in group)
            for group in (first, second)
            if group
        ]
        captions.append(lines)
    return captions


def _heading(text: str, count: int) -> Image.Image:
    shown = f"{text}, the first {MOST}" if count > MOST else text
    return _line(shown, 17, INK, 36)


def _line(text: str, size: int, colour: str, height: int) -> Image.Image:
    canvas = Image.new("RGB", (INSIDE, height if text else 1), "white")
    ImageDraw.Draw(canvas).text((0, height - 10), text, colour, font_for(text, size), anchor="ls")
    return canvas


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _colour(name: str) -> str:
    return GOOD if name in (CLIP_T, OVERALL) else BAR
