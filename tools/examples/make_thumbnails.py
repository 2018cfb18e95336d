"""Draw the pictures beside the examples, which the browser shows in its list of templates.

    python tools/run.py make_thumbnails [name ...]

Each miniature example is run as it is on a server of its own: at the left what was learned from,
at the right what was drawn; of an evaluation its report, which shows both. The example for Stable
Diffusion gets the same picture. Examples that the named ones need are run too, and not drawn.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...cli.client import ComfyClient, Workflow
from ...cli.comfyui import ROOT
from ...cli.workflows import nodes_of_type, to_api
from ...miniature import subjects
from ..demo import PACKS
from ..get_host import get_host
from ..server.server import ComfyServer
from .miniature_examples import NEEDED, PREFIX, base_for_examples

FOLDER = ROOT / "example_workflows"
SIZE = 640, 480
COLUMN = 160  # pixels of a picture that was learned from
BACKGROUND, PAPER = (32, 32, 32), (255, 255, 255)
PATIENCE = 3600.0  # seconds


def drawn(client: ComfyClient, prompt: Workflow) -> list[Image.Image]:
    """What a prompt saves, as pictures."""
    run = client.run(prompt, timeout=PATIENCE)
    files = [file for file in run.files("images") if file["type"] == "output"]
    return [Image.open(io.BytesIO(client.fetch(file))).convert("RGB") for file in files]


def learned_from(prompt: Workflow) -> list[Image.Image]:
    """The pictures of the prompt's subjects."""
    found: list[Image.Image] = []
    for key in nodes_of_type(prompt, "MiniatureSubject"):
        given = prompt[key]["inputs"]
        subject = getattr(subjects, given["kind"])(given["number"])
        pictures = (subject.references.first(given["pictures"]).pictures * 255).round().byte()
        found += [Image.fromarray(picture) for picture in pictures.numpy()]
    return found


def thumbnail(
    before: Sequence[Image.Image],
    after: Sequence[Image.Image],
    ground: tuple[int, int, int] = BACKGROUND,
) -> Image.Image:
    """Up to three pictures in a column at the left, and those that were drawn beside it."""
    width, height = SIZE
    sheet = Image.new("RGB", SIZE, ground)
    shown = before[: height // COLUMN]
    top = (height - COLUMN * len(shown)) // 2
    for n, picture in enumerate(shown):
        sheet.paste(_fitted(picture, COLUMN, COLUMN), (0, top + n * COLUMN))
    left = COLUMN if shown else 0
    share = (width - left) // len(after)
    for n, picture in enumerate(after):
        fitted = _fitted(picture, share, height)
        sheet.paste(fitted, (left + n * share, (height - fitted.height) // 2))
    return sheet


def _fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / picture.width, height / picture.height)
    size = round(picture.width * scale), round(picture.height * scale)
    return picture.resize(size, Image.Resampling.LANCZOS)


def in_order(names: Sequence[str]) -> list[Path]:
    """The miniature examples and what they need, those that draw with the files of others last."""
    wanted = {*names, *(needed for name in names for needed in NEEDED.get(name, ()))}
    paths = [p for p in FOLDER.glob(f"{PREFIX}*.json") if not names or p.stem in wanted]
    return sorted(paths, key=lambda path: ("learn" not in path.stem, path.stem))


def draw_all(client: ComfyClient, names: Sequence[str]) -> None:
    """The thumbnails of the named miniature examples, or of all."""
    info = client.object_info()
    for path in in_order(names):
        prompt = to_api(json.loads(path.read_text(encoding="utf-8")), info)
        pictures = drawn(client, prompt)
        if names and path.stem not in names:
            continue
        reports = ("PersonalizeEvaluate", "PersonalizeCompare")
        scored = any(nodes_of_type(prompt, kind) for kind in reports)
        before, ground = ([], PAPER) if scored else (learned_from(prompt), BACKGROUND)
        picture = thumbnail(before, pictures, ground)
        for stem in (path.stem, path.stem.removeprefix(PREFIX)):
            picture.save(FOLDER / f"{stem}.jpg", quality=85, optimize=True)
            print(f"example_workflows/{stem}.jpg")


def main(arguments: Sequence[str]) -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        ComfyServer(get_host(), base_for_examples(Path(folder)), PACKS) as server,
    ):
        draw_all(server.client, arguments)
    return 0
