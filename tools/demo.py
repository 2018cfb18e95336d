"""Learn a thing from four pictures and a face from one, with every method, on a real server.

    make demo                      ARGS="--methods ci-fast catversion" for some of them

The base model is the miniature Stable Diffusion of this repository; neither the thing nor the face
was in its training. Saves a labelled sheet with the judges' scores, and prints them as a table.
"""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..cli.client import ComfyClient, Message, RunError, Workflow
from ..cli.comfyui import ROOT, OnCpu
from ..cli.workflows import ObjectInfo, node, node_list, widgets
from ..miniature.files import CHECKPOINT, JUDGES, VISION, WEIGHTS, BadWeights, read
from ..miniature.subjects import (
    Jury,
    Prompt,
    Scores,
    Subject,
    Views,
    face,
    mean_scores,
    prompts_for,
    thing,
)
from ..studies.miniature_models import SIZE
from ..studies.recipes import DRAWING, RECIPES, Recipe, recipes_for, without_encoder
from ..studies.sheets import Row, draw_sheet, to_image
from .get_host import get_host
from .server.server import ComfyServer, make_base_directory

BASE = ROOT / ".demo"
PACKS = {"personalize": ROOT, "miniature": ROOT / "miniature" / "comfy_pack"}
PROMPTS = 4
QUICK: dict[str, dict[str, Any]] = {
    "custom": {"steps": 60, "prior_count": 8},
    "detex": {"steps": 60, "prior_count": 8},
}
"""Less than the study's settings: all methods are to be shown within five minutes on two cores."""
LEFT_OUT = ("ci",)  # the fast one shows the method
WriteLine = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """A subject and how many of its pictures there are to learn from."""

    subject: Subject
    shots: int

    @property
    def title(self) -> str:
        return f"{self.subject.class_word}, {self.shots} picture{'s' if self.shots > 1 else ''}"


@dataclass(frozen=True)
class Shown:
    """A method's pictures of a subject, one a prompt, with their scores."""

    task: Task
    recipe: Recipe
    pictures: list[Tensor]
    scores: list[Scores]
    seconds: float


# --- workflows --------------------------------------------------------------------------------


def learn_and_draw(
    info: ObjectInfo, recipe: Recipe, subject: Subject, names: Sequence[str], prompts: list[str]
) -> Workflow:
    """Train on uploaded pictures, apply the concept, and draw a picture of each prompt.

    names: what LoadImage takes; a recipe that learns nothing draws with the models as they are
    """
    workflow: Workflow = {"base": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)}
    source = "base"
    if recipe.learns:
        workflow |= training(info, recipe, subject, names)
        source = "apply"
    for n, prompt in enumerate(prompts):
        workflow |= drawing(source, prompt, f"draw{n}", seed=n)
    return workflow


def training(info: ObjectInfo, recipe: Recipe, subject: Subject, names: Sequence[str]) -> Workflow:
    """Pictures -> list -> Train node, or ELITE's encoder -> Save Concept and Apply Concept."""
    loads = {f"load{n}": node("LoadImage", image=name) for n, name in enumerate(names)}
    pictures, masks = (node_list([[key, n] for key in loads]) for n in (0, 1))
    settings = {**defaults(info, recipe.node), **recipe.inputs(subject)}
    sockets: dict[str, Any] = {"images": ["pictures", 0]}
    sockets |= {"model": ["base", 0], "clip": ["base", 1], "vae": ["base", 2]}
    workflow = {**loads, "pictures": pictures}
    if recipe.encoder:
        workflow["elite"] = node(
            "PersonalizeLoadELITE",
            **defaults(info, "PersonalizeLoadELITE") | {"global_mapper": recipe.encoder},
        )
        sockets = {"elite": ["elite", 0], "image": ["load0", 0], "mask": ["load0", 1]}
    else:
        settings |= {"preview_every": 0, "save_every": 0, "resume": False}
    if recipe.takes_masks:
        workflow["vision"] = node("MiniatureLoadVision", clip_name=VISION)
        sockets["clip_vision"] = ["vision", 0]
        if not recipe.encoder:
            workflow["inside"] = masks
            sockets["masks"] = ["inside", 0]
    concept = {"concept": ["train", 0]}
    applied = defaults(info, "PersonalizeApplyConcept")
    saved = defaults(info, "PersonalizeSaveConcept") | {"filename": f"demo/{subject.name}"}
    return {
        **workflow,
        "train": node(recipe.node, **settings, **sockets),
        "apply": node(
            "PersonalizeApplyConcept", model=["base", 0], clip=["base", 1], **concept, **applied
        ),
        "save": node("PersonalizeSaveConcept", **concept, **saved),
    }


def defaults(info: ObjectInfo, class_type: str) -> dict[str, Any]:
    """What the node's widgets start with."""
    return {name: default for name, default, _ in widgets(info[class_type])}


def drawing(source: str, prompt: str, key: str, seed: int) -> Workflow:
    """Stock text encode, KSampler, VAE decode and Save Image."""
    clip = [source, 1]
    how = {
        "seed": seed,
        "steps": DRAWING["steps"],
        "cfg": DRAWING["cfg"],
        "sampler_name": DRAWING["sampler"],
        "scheduler": DRAWING["scheduler"],
        "denoise": 1.0,
    }
    places = {"positive": [f"{key}_positive", 0], "negative": [f"{key}_negative", 0]}
    latent = {"width": SIZE, "height": SIZE, "batch_size": 1}
    return {
        f"{key}_positive": node("CLIPTextEncode", clip=clip, text=prompt),
        f"{key}_negative": node("CLIPTextEncode", clip=clip, text=""),
        f"{key}_latent": node("EmptyLatentImage", **latent),
        f"{key}_sample": node(
            "KSampler", model=[source, 0], latent_image=[f"{key}_latent", 0], **places, **how
        ),
        f"{key}_decode": node("VAEDecode", samples=[f"{key}_sample", 0], vae=["base", 2]),
        key: node("SaveImage", images=[f"{key}_decode", 0], filename_prefix=f"demo/{key}"),
    }


# --- running ----------------------------------------------------------------------------------


def show(
    client: ComfyClient,
    jury: Jury,
    recipe: Recipe,
    task: Task,
    prompts: Sequence[Prompt],
    tell: WriteLine,
) -> Shown:
    """Learn the task's subject, draw the prompts, and let the jury score the pictures."""
    subject = task.subject
    names = upload(client, subject.name, subject.references.first(task.shots))
    texts = [prompt.about(recipe.name(subject)) for prompt in prompts]
    workflow = learn_and_draw(client.object_info(), recipe, subject, names, texts)
    start = time.monotonic()
    run = client.run(workflow, on_message=progress(tell))
    seconds = time.monotonic() - start
    pictures = [fetch(client, run.outputs[f"draw{n}"]["images"][0]) for n in range(len(prompts))]
    scores = [
        jury.score(subject, prompt, picture[None])[0]
        for prompt, picture in zip(prompts, pictures, strict=True)
    ]
    return Shown(task, recipe, pictures, scores, seconds)


def upload(client: ComfyClient, name: str, views: Views) -> list[str]:
    """Put the pictures into the server's input folder, the subject's mask as transparency."""
    names = []
    for n, (picture, mask) in enumerate(zip(views.pictures, views.masks, strict=True)):
        image = to_image(picture)
        file = io.BytesIO()
        # LoadImage's MASK is what is transparent; its IMAGE keeps the colours there
        hidden = Image.fromarray(np.asarray((1 - mask).mul(255).round().byte()))
        image.putalpha(hidden)
        image.save(file, "PNG")
        names.append(client.upload_image(f"{name.replace(' ', '-')}-{n}.png", file.getvalue()))
    return names


def fetch(client: ComfyClient, file: dict[str, str]) -> Tensor:
    """A saved picture, (height, width, 3) in 0..1."""
    image = Image.open(io.BytesIO(client.fetch(file))).convert("RGB")
    return torch.from_numpy(np.array(image)).float() / 255


def progress(tell: WriteLine) -> Callable[[Message], None]:
    """Tells of the training's steps and of every picture that begins."""
    begun = itertools.count(1)

    def on_message(message: Message) -> None:
        if message.kind == "personalize.live":
            tell("step {step}/{steps}".format_map(message.data))
        elif message.kind == "executing" and str(message.data.get("node")).endswith("_sample"):
            tell(f"drawing picture {next(begun)}")

    return on_message


def live(prefix: str) -> WriteLine:
    """Writes over one line of a terminal, or now and then a line into a file."""
    last = [0.0]

    def tell(text: str) -> None:
        if sys.stdout.isatty():
            print(f"\r\x1b[K{prefix}{text}", end="", flush=True)
        elif time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"{prefix}{text}", flush=True)

    return tell


# --- results ----------------------------------------------------------------------------------


def table(shown: Sequence[Shown]) -> str:
    """Mean scores, one line a subject and method."""
    head = f"{'subject':22}{'method':28}{'likeness':>9}{'edits':>8}{'class':>8}{'seconds':>9}"
    lines = [head, "-" * len(head)]
    for one in shown:
        mean = mean_scores(one.scores)
        lines.append(
            f"{one.task.title:22}{one.recipe.title:28}{mean.likeness:>9.2f}{mean.edits:>8.0%}"
            f"{mean.kind:>8.0%}{one.seconds:>9.0f}"
        )
    return "\n".join(lines)


def sheet(shown: Sequence[Shown], prompts: Sequence[Sequence[Prompt]]) -> Image.Image:
    """All tasks under each other, each with its prompts on top."""
    parts = []
    tasks = list(dict.fromkeys(one.task for one in shown))
    for task, asked in zip(tasks, prompts, strict=True):
        rows = [
            Row(
                one.recipe.title,
                one.pictures,
                [f"likeness {s.likeness:.2f}  edits {s.edits:.0%}" for s in one.scores],
                list(task.subject.references.first(task.shots).pictures) if not n else (),
            )
            for n, one in enumerate(o for o in shown if o.task is task)
        ]
        title = f"An unseen {task.title} (left); scores: instance judge, attribute judge"
        parts.append(draw_sheet(title, [p.about("...") for p in asked], rows))
    whole = Image.new("RGB", (max(p.width for p in parts), sum(p.height for p in parts)), "white")
    for n, part in enumerate(parts):
        whole.paste(part, (0, sum(p.height for p in parts[:n])))
    return whole


# --- the command ------------------------------------------------------------------------------


def prepare_base(weights: Path = WEIGHTS, base: Path = BASE) -> Path:
    """The demo's base directory, with the miniature in it; raises BadWeights with a sentence."""
    for name in (CHECKPOINT, VISION, JUDGES):
        read(weights / name)
    base = make_base_directory(base)
    files = {CHECKPOINT: "checkpoints", VISION: "clip_vision", RECIPES["elite"].encoder: "elite"}
    for name, folder in files.items():
        if (weights / name).is_file():
            shutil.copyfile(weights / name, base / "models" / folder / name)
    return base


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=[key for key, recipe in RECIPES.items() if not recipe.part],
        default=[k for k, recipe in RECIPES.items() if k not in LEFT_OUT and not recipe.part],
    )
    parser.add_argument("--thing", type=int, default=4, help="number of the object to learn")
    parser.add_argument("--face", type=int, default=6, help="number of the face to learn")
    parser.add_argument("--prompts", type=int, default=PROMPTS, choices=range(1, 11), metavar="N")
    parser.add_argument("--cpu", action=OnCpu)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as in the server: the judges are small, too
    tasks = [Task(thing(options.thing), 4), Task(face(options.face), 1)]
    host = get_host()
    try:
        base, jury = prepare_base(), Jury.load()
    except BadWeights as error:
        print(error, file=sys.stderr)
        return 1
    for sentence in (*without_encoder(), "starting the server ..."):
        print(sentence, flush=True)
    with ComfyServer(host, base, PACKS) as server:
        print(f"ComfyUI answers at {server.base_url}", flush=True)
        try:
            shown = show_all(server.client, jury, tasks, options.methods, options.prompts)
        except RunError as error:
            print(f"{error}\n{server.log()[-3000:]}", file=sys.stderr)
            return 1
    if not shown:
        print(f"Nothing can be shown: {', '.join(options.methods)} cannot be run here.")
        return 1
    file = base / "output" / "demo.png"
    sheet(shown, [prompts_for(t.subject, options.prompts) for t in tasks]).save(file)
    print(f"\n{table(shown)}\n\nsheet: {file}\nconcepts: {base / 'output' / 'concepts' / 'demo'}")
    return 0


def quick(key: str, recipe: Recipe) -> Recipe:
    return replace(recipe, settings={**recipe.settings, **QUICK.get(key, {})})


def show_all(
    client: ComfyClient,
    jury: Jury,
    tasks: Sequence[Task],
    methods: Sequence[str],
    prompts: int,
) -> list[Shown]:
    """Every chosen method on every task, told as it goes."""
    known = recipes_for(client.object_info())
    chosen = [quick(key, recipe) for key, recipe in known.items() if key in methods]
    shown = []
    for task in tasks:
        for recipe in chosen:
            number = f"[{len(shown) + 1}/{len(tasks) * len(chosen)}] "
            prefix = f"{number}{task.title}, {recipe.title}: "
            asked = prompts_for(task.subject, prompts)
            shown.append(show(client, jury, recipe, task, asked, live(prefix)))
            mean = mean_scores(shown[-1].scores)
            clear = "\r\x1b[K" if sys.stdout.isatty() else ""
            result = f"likeness {mean.likeness:.2f}, edits {mean.edits:.0%}"
            print(f"{clear}{prefix}{result}, {shown[-1].seconds:.0f} s", flush=True)
    return shown
