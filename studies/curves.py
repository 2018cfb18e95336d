"""How far learned words drift: Textual Inversion and Cross Initialization on the same pictures.

    python tools/run.py curves                                    a tiny random model, a drawn face
    python tools/run.py curves --checkpoint MODEL.safetensors --pack FOLDER PICTURES...

Draws what Pang et al. 2024 draw in figures 2 and 8, the norm of the words v and their cosine to
E(v), the text encoder's output at their places, into docs/curves.png, and writes the numbers beside
it. FOLDER is a custom node pack that knows the checkpoint's family, where the host does not.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from ..cli.comfyui import ROOT, OnCpu, prepare_host
from ..tools.server.server import make_base_directory

if TYPE_CHECKING:
    from torch import Tensor

    from ..host.text_encoder import TextEncoder
    from ..training.loop import StepReport
    from ..training.pictures import EncodedPictures

WORDS = 2
METHODS = {"Textual Inversion": "#c0392b", "Cross Initialization": "#2471a3"}
COLOURS = (*METHODS.values(), "#1e8449", "#b9770e", "#7d3c98", "#555555", "#d35400", "#117a8b")


@dataclass(frozen=True)
class Point:
    """Of the words after a step, as means over them.

    norm: ||v||; cosine: between v and E(v); drift: ||v - v_start|| / ||v_start||;
    turned: cosine between v and v_start; loss: denoising loss on held noises and timesteps
    """

    step: int
    norm: float
    cosine: float
    drift: float
    turned: float
    loss: float


@dataclass(frozen=True)
class Settings:
    """What both methods train with."""

    class_word: str = "person"
    steps: int = 320
    batch_size: int = 4
    learning_rate: float = 0.005
    resolution: int = 64
    train_seed: int = 0
    every: int = 5


# --- measuring --------------------------------------------------------------------------------


def learning_curves(
    model: Any, clip: Any, vae: Any, images: list[Tensor], settings: Settings
) -> dict[str, list[Point]]:
    """The points of each method of METHODS; step 0 is where it starts.

    images: batches (B, H, W, C) in 0..1
    """
    from ..training import cross_init, textual_inversion
    from ..training.cross_init import CrossInitConfig, InitFrom
    from ..training.learn import learn
    from ..training.pictures import encode_pictures
    from ..training.sources import Sources
    from ..training.textual_inversion import TextualInversionConfig

    shared: dict[str, Any] = {
        name: getattr(settings, name)
        for name in ("steps", "batch_size", "learning_rate", "resolution", "train_seed")
    }
    shared |= {"placeholder": "<subject>", "save_every": 0}
    names = InitFrom.NAMES if settings.class_word == "person" else InitFrom.CLASS_WORD
    ti = TextualInversionConfig(init_word=settings.class_word, vectors=WORDS, **shared)
    ci = CrossInitConfig(class_word=settings.class_word, init_from=names, **shared)
    starts = {
        "Textual Inversion": lambda text: textual_inversion.vocabulary_words(
            text, settings.class_word, WORDS
        ),
        "Cross Initialization": lambda text: cross_init.initial_words(text, ci),
    }
    pictures = encode_pictures(vae, images, settings.resolution, flip=False)
    curves = {}
    for (method, start), config in zip(starts.items(), (ti, ci), strict=True):
        curve = Curve(start, pictures, settings.every)
        sources = Sources(model=model, clip=clip, vae=vae, images=images)
        learn(config, sources, on_step=curve)
        curves[method] = curve.points
    return curves


class Curve:
    """Callback of a training that measures its words; `points` is what it found.

    start: the words before the first step; the loss is taken on HELD pictures, noises and
    timesteps that never change.
    """

    HELD = 32

    def __init__(
        self, start: Callable[[TextEncoder], Tensor], pictures: EncodedPictures, every: int
    ) -> None:
        self._start, self._pictures, self._every = start, pictures, every
        self.points: list[Point] = []

    def __call__(self, report: StepReport) -> None:
        if report.step == 1:
            self._begin(report)
        if report.step % self._every == 0 or report.step == report.steps:
            self._measure(report, report.step, report.learner.parameters["words"].detach())

    def _begin(self, report: StepReport) -> None:
        import torch

        from ..training.batch import draw_batch

        generator = torch.Generator().manual_seed(1)
        learner, backbone = report.learner, report.backbone
        with torch.no_grad():
            self.start = self._start(backbone.text)
        self._held = draw_batch(
            self._pictures, backbone, generator, size=self.HELD, prompts=learner.prompts
        )
        self._measure(report, 0, self.start)

    def _measure(self, report: StepReport, step: int, words: Tensor) -> None:
        import torch
        from torch.nn.functional import cosine_similarity

        from ..training.cross_init import encoded_words

        start, learned = self.start, report.learner.parameters["words"]
        with torch.no_grad():
            output = encoded_words(report.backbone.text, words)
            now = learned.clone()
            learned.copy_(words)
            loss = report.learner.loss(report.backbone, self._held)["denoising"].item()
            learned.copy_(now)
        point = Point(
            step=step,
            norm=words.norm(dim=1).mean().item(),
            cosine=cosine_similarity(words, output).mean().item(),
            drift=((words - start).norm(dim=1) / start.norm(dim=1)).mean().item(),
            turned=cosine_similarity(words, start).mean().item(),
            loss=loss,
        )
        self.points.append(point)


# --- drawing ----------------------------------------------------------------------------------

PANELS = {
    "norm": "norm of the words v",
    "cosine": "cosine of v and E(v)",
    "drift": "drift |v - v_start| / |v_start|",
    "loss": "loss on held noises",
}
PANEL = (460, 344)
MARGIN = (64, 36, 16, 88)  # left, top, right, bottom
LEGEND_COLUMNS = 2


def draw_curves(curves: dict[str, list[Point]]) -> Image.Image:
    """One panel for each of PANELS, two in a row."""
    width, height = PANEL
    picture = Image.new("RGB", (2 * width, (len(PANELS) + 1) // 2 * height), "white")
    for number, (name, title) in enumerate(PANELS.items()):
        lines = {
            method: [(p.step, float(getattr(p, name))) for p in points]
            for method, points in curves.items()
        }
        picture.paste(draw_panel(title, lines), (number % 2 * width, number // 2 * height))
    return picture


def draw_panel(title: str, lines: dict[str, list[tuple[int, float]]]) -> Image.Image:
    """Up to eight lines over steps, their names below, the ends of both axes written on them."""
    panel = Image.new("RGB", PANEL, "white")
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(13)
    left, top, right, bottom = MARGIN
    right, bottom = PANEL[0] - right, PANEL[1] - bottom
    values = [value for line in lines.values() for _, value in line]
    low, high = axis(values)
    last = max(step for line in lines.values() for step, _ in line)

    def place(step: float, value: float) -> tuple[float, float]:
        across, up = step / last, (value - low) / (high - low or 1)
        return left + across * (right - left), bottom - up * (bottom - top)

    for part in range(5):
        value, step = low + (high - low) * part / 4, round(last * part / 4)
        draw.line([place(0, value), place(last, value)], fill="#dddddd")
        draw.text((left - 8, place(0, value)[1]), f"{value:.4g}", "black", font, anchor="rm")
        draw.text((place(step, 0)[0], bottom + 8), str(step), "black", font, anchor="mt")
    draw.text((left, top - 12), title, "black", font, anchor="ls")
    for number, (method, line) in enumerate(lines.items()):
        colour = COLOURS[number]
        draw.line([place(*point) for point in line], fill=colour, width=2)
        row, column = divmod(number, LEGEND_COLUMNS)
        corner = (left + column * (right - left) / LEGEND_COLUMNS, bottom + 34 + 15 * row)
        draw.text(corner, method, colour, font, anchor="ls")
    return panel


def axis(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis: it begins at 0 unless all values lie close together far from it."""
    low, high = min(values), max(values)
    room = (high - low) / 20 or 1.0
    return (low - room if low > high / 2 else min(0.0, low)), high + room


def write_numbers(curves: dict[str, list[Point]], path: Path) -> None:
    """A CSV with one row a method and step."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", *(field.name for field in fields(Point))])
        for method, points in curves.items():
            for point in points:
                step, *numbers = astuple(point)
                writer.writerow([method, step, *(f"{number:.5g}" for number in numbers)])


def summary(curves: dict[str, list[Point]]) -> str:
    """First and last points as a Markdown table."""
    names = [field.name for field in fields(Point)]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for method, points in curves.items():
        for point in (points[0], points[-1]):
            step, *numbers = astuple(point)
            cells = [str(step), *(f"{number:.4g}" for number in numbers)]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# --- the command ------------------------------------------------------------------------------


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="curves")
    parser.add_argument("pictures", nargs="*", type=Path, help="a face is drawn if left out")
    parser.add_argument("--checkpoint", type=Path, help="a tiny random SD1 model if left out")
    parser.add_argument("--pack", type=Path, help="custom node pack that knows its family")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder to write to")
    defaults = Settings()
    for field in fields(Settings):
        value = getattr(defaults, field.name)
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(value), default=value)
    parser.add_argument("--cpu", action=OnCpu)
    options = parser.parse_args(arguments)
    settings = Settings(**{f.name: getattr(options, f.name) for f in fields(Settings)})
    base = make_base_directory()
    try:
        prepare_host(None, base)
        models = load_models(options.checkpoint, options.pack, base)
        curves = learning_curves(*models, load_pictures(options.pictures), settings)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    options.output.mkdir(parents=True, exist_ok=True)
    draw_curves(curves).save(options.output / "curves.png", optimize=True)
    write_numbers(curves, options.output / "curves.csv")
    print(summary(curves))
    return 0


def load_models(checkpoint: Path | None, pack: Path | None, folder: Path) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a checkpoint; without one, of a tiny random model made in a folder."""
    from ..host.models import load_checkpoint, load_pack

    if pack is not None:
        load_pack(pack)
    if checkpoint is None:
        from ..tests.host_models import make_checkpoint

        checkpoint = make_checkpoint(folder / "tiny_sd1.safetensors", "sd1")
    return load_checkpoint(checkpoint)


def draw_face(size: int = 256) -> bytes:
    """A PNG of one face: hair, eyes, nose and mouth on a plain ground."""
    picture = Image.new("RGB", (size, size), "#87b5d9")
    draw = ImageDraw.Draw(picture)

    def box(x: float, y: float, width: float, height: float) -> list[float]:
        return [size * v for v in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)]

    nose = [(size * x, size * y) for x, y in ((0.5, 0.5), (0.46, 0.61), (0.54, 0.61))]
    draw.ellipse(box(0.5, 0.42, 0.66, 0.7), fill="#7a3b12")
    draw.ellipse(box(0.5, 0.52, 0.54, 0.68), fill="#eec39a")
    for x in (0.39, 0.61):
        draw.ellipse(box(x, 0.47, 0.11, 0.07), fill="#ffffff")
        draw.ellipse(box(x, 0.47, 0.05, 0.06), fill="#2a6f4e")
    draw.polygon(nose, fill="#d9a066")
    draw.chord(box(0.5, 0.68, 0.24, 0.12), 0, 180, fill="#c0392b")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def load_pictures(paths: Sequence[Path]) -> list[Tensor]:
    """Pictures (1, H, W, 3) in 0..1, or a drawn face."""
    import numpy
    import torch

    opened = [Image.open(path) for path in paths] or [Image.open(io.BytesIO(draw_face()))]
    arrays = [numpy.asarray(picture.convert("RGB"), dtype=numpy.float32) for picture in opened]
    return [torch.from_numpy(array / 255.0)[None] for array in arrays]
