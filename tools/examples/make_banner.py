"""Draw docs/banner.png for the registry: the icon's shapes, the name, and pictures of the examples.

    python tools/run.py make_banner

Run it after make_thumbnails, whose pictures it shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ...cli.comfyui import ROOT

EXAMPLES = ROOT / "example_workflows"
SHOWN = ("1 Learn my face", "2 Learn my pet")
SIZE = 1260, 540  # 21:9, as the registry shows it
SMOOTH = 4  # shapes are drawn larger and scaled down
BACKGROUND, BRACKET, HEAD, TEXT, FAINT = "#30323d", "#edae49", "#d1495b", "#ffffff", "#c8cad3"
LINES = "Teach Stable Diffusion new concepts", "from a few pictures, in ComfyUI"


def icon(side: int) -> Image.Image:
    """docs/icon.svg without its background."""
    scale = side * SMOOTH / 400
    picture = Image.new("RGB", (side * SMOOTH, side * SMOOTH), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for tip, end in ((46, 118), (354, 282)):
        points = [(x * scale, y * scale) for x, y in ((end, 104), (tip, 200), (end, 296))]
        draw.line(points, BRACKET, round(30 * scale), joint="curve")
    draw.ellipse([v * scale for v in (156, 122, 244, 210)], HEAD)
    draw.pieslice([v * scale for v in (116, 218, 284, 362)], 180, 360, HEAD)
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def main(arguments: Sequence[str]) -> int:
    banner = Image.new("RGB", SIZE, BACKGROUND)
    banner.paste(icon(150), (50, 60))
    draw = ImageDraw.Draw(banner)
    draw.text((220, 84), "Personalize", TEXT, ImageFont.load_default(84))
    for n, line in enumerate(LINES):
        draw.text((56, 260 + 48 * n), line, FAINT, ImageFont.load_default(34))
    for n, name in enumerate(SHOWN):
        with Image.open(EXAMPLES / f"{name}.jpg") as picture:
            banner.paste(picture.resize((347, 260)), (880, 5 + 265 * n))
    banner.save(ROOT / "docs" / "banner.png", optimize=True)
    print("docs/banner.png")
    return 0
