"""Draw the pictures beside the examples, which the browser shows in its list of templates.

    python tools/run.py make_thumbnails [name ...]

Each miniature example is run as it is on a server of its own: at the left what was learned from,
at the right what was drawn; of an evaluation its report, which shows both. The example for Stable
Diffusion gets the same picture, and so does that for SDXL. Of two subjects only what was learned
from is shown. Examples that the named ones need are
run too, and not drawn.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...cli.client import ComfyClient, Workflow
from ...cli.comfyui import ROOT
from ...cli.workflows import nodes_of_type, set_inputs, to_api
from ...miniature import subjects
from ..demo import PACKS
from ..get_host import get_host
from ..server.server import ComfyServer
from .make_examples import FOLDER, MINIATURE
from .miniature_examples import NEEDED, base_for_examples
from .templates import TEMPLATES

SIZE = 640, 480
SEEDS = range(1, 9)
COLUMN = 160  # pixels of a picture that was learned from
BACKGROUND, PAPER = (32, 32, 32), (255, 255, 255)
PATIENCE = 3600.0  # seconds


def drawn(client: ComfyClient, prompt: Workflow) -> list[Image.Image]:
    """What a prompt saves, as pictures."""
    run = client.run(prompt, timeout=PATIENCE)
    files = [file for file in run.files("images") if file["type"] == "output"]
    return [Image.open(io.BytesIO(client.fetch(file))).convert("RGB") for file in files]


def best_drawn(client: ComfyClient, prompt: Workflow, jury: subjects.Jury) -> list[Image.Image]:
    """Of some seeds, the pictures that are most like the subject: what the template can do. What is
    learned stays the same, and comes from the host's cache."""
    wanted = subject_pictures(prompt)
    if not wanted:
        return drawn(client, prompt)

    def likeness(pictures: list[Image.Image]) -> float:
        shown = np.stack([np.asarray(picture) for picture in pictures])
        tensors = (torch.from_numpy(shown).float() / 255, torch.cat(wanted))
        return jury.likeness(*tensors).mean().item()

    tried = []
    for seed in SEEDS:
        set_inputs(prompt, "KSampler", seed=seed)
        tried.append(drawn(client, prompt))
    return max(tried, key=likeness)


def subject_pictures(prompt: Workflow) -> list[Tensor]:
    """What the prompt learns from: for each subject (n, height, width, 3) in 0..1."""
    given = [prompt[key]["inputs"] for key in nodes_of_type(prompt, "MiniatureSubject")]
    return [
        getattr(subjects, one["kind"])(one["number"]).references.first(one["pictures"]).pictures
        for one in given
    ]


def learned_from(prompt: Workflow) -> list[Image.Image]:
    """The pictures of the prompt's subjects."""
    pictures = [p for batch in subject_pictures(prompt) for p in (batch * 255).round().byte()]
    return [Image.fromarray(picture.numpy()) for picture in pictures]


def thumbnail(
    before: Sequence[Image.Image],
    after: Sequence[Image.Image],
    ground: tuple[int, int, int] = BACKGROUND,
) -> Image.Image:
    """Up to three pictures in a column at the left, and those that were drawn beside it, four and
    more of them in a square."""
    width, height = SIZE
    sheet = Image.new("RGB", SIZE, ground)
    shown = before[: height // COLUMN]
    top = (height - COLUMN * len(shown)) // 2
    for n, picture in enumerate(shown):
        sheet.paste(_fitted(picture, COLUMN, COLUMN), (0, top + n * COLUMN))
    left = COLUMN if shown else 0
    across = len(after) if len(after) < 4 else math.ceil(len(after) ** 0.5)
    down = -(-len(after) // across)
    wide, high = (width - left) // across, height // down
    for n, picture in enumerate(after):
        fitted = _fitted(picture, wide, high)
        row, column = divmod(n, across)
        sheet.paste(fitted, (left + column * wide, row * high + (high - fitted.height) // 2))
    return sheet


def _fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / picture.width, height / picture.height)
    size = round(picture.width * scale), round(picture.height * scale)
    return picture.resize(size, Image.Resampling.LANCZOS)


def in_order(names: Sequence[str]) -> list[Path]:
    """The miniature's templates and what they need. By their numbers, those that draw with the
    files of others come after these."""
    wanted = {*names, *(needed for name in names for needed in NEEDED.get(name, ()))}
    paths = (p for p in MINIATURE.glob("*.json") if not names or p.stem in wanted)
    return sorted(paths)


def draw_all(client: ComfyClient, names: Sequence[str]) -> None:
    """The thumbnails of the named miniature examples, or of all."""
    info, jury = client.object_info(), subjects.Jury.load()
    for path in in_order(names):
        prompt = to_api(json.loads(path.read_text(encoding="utf-8")), info)
        reports = ("PersonalizeEvaluate", "PersonalizeCompare")
        if any(nodes_of_type(prompt, kind) for kind in reports):
            picture = thumbnail([], drawn(client, prompt), PAPER)
        elif len(nodes_of_type(prompt, "MiniatureSubject")) > 1:
            # the miniature has never seen two faces in one picture
            picture = thumbnail([], learned_from(prompt))
        else:
            picture = thumbnail(learned_from(prompt), best_drawn(client, prompt, jury))
        if names and path.stem not in names:
            continue
        alike = [draft.name for draft in TEMPLATES if draft.shown_by == path.stem]
        shown = [FOLDER / f"{name}.jpg" for name in (path.stem, *alike)]
        for file in (path.with_suffix(".jpg"), *shown):
            if file.with_suffix(".json").is_file():
                picture.save(file, quality=85, optimize=True)
                print(file.relative_to(ROOT))


def main(arguments: Sequence[str]) -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        ComfyServer(get_host(), base_for_examples(Path(folder)), PACKS) as server,
    ):
        draw_all(server.client, arguments)
    return 0
