"""The whole way on a real server: draw pictures, learn a concept, save it, use it in a prompt.

The base model is tiny and random: the picture shows that everything runs, not the subject.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from .alias import prepare_host
from .comfy_client import ComfyClient, Message, RunError, Workflow
from .comfy_server import ComfyServer, make_base_directory
from .get_host import ROOT, get_host

BASE = ROOT / ".demo"
CHECKPOINT = "tiny_sd1.safetensors"
PLACEHOLDER = "<my-ball>"


def draw_pictures(count: int = 3, size: int = 96) -> list[bytes]:
    """PNGs of one striped ball at several places on several grounds."""
    grounds = ["#87b5d9", "#d9c9a3", "#a8c69f"]
    pictures = []
    for i in range(count):
        picture = Image.new("RGB", (size, size), grounds[i % len(grounds)])
        draw = ImageDraw.Draw(picture)
        x, y, r = size // 2 + 8 * (i - 1), size // 2 + 6 * (i % 2), size // 3
        draw.ellipse((x - r, y - r, x + r, y + r), fill="#d1495b", outline="#30323d", width=3)
        draw.chord((x - r, y - r, x + r, y + r), 200, 340, fill="#edae49")
        file = io.BytesIO()
        picture.save(file, "PNG")
        pictures.append(file.getvalue())
    return pictures


def training_workflow(images: Sequence[str], filename: str, steps: int) -> Workflow:
    """Uploaded pictures -> Train Cross Initialization -> Save Concept, in the API format."""
    workflow: Workflow = {"base": _node("CheckpointLoaderSimple", {"ckpt_name": CHECKPOINT})}
    for i, name in enumerate(images):
        workflow[f"image{i}"] = _node("LoadImage", {"image": name})
    batch = "image0"
    for i in range(1, len(images)):
        both = {"image1": [batch, 0], "image2": [f"image{i}", 0]}
        batch = f"batch{i}"
        workflow[batch] = _node("ImageBatch", both)
    train = {
        "model": ["base", 0], "clip": ["base", 1], "vae": ["base", 2], "images": [batch, 0],
        "placeholder": PLACEHOLDER, "class_word": "ball", "init_from": "class word",
        "steps": steps, "batch_size": 2, "learning_rate": 0.005, "reg_weight": 1e-5,
        "train_seed": 1, "resolution": 64, "preview_every": max(1, steps // 3), "resume": False,
    }  # fmt: skip
    save = {"concept": ["train", 0], "filename": filename, "also_as_embedding": False}
    return workflow | {
        "train": _node("PersonalizeTrainCrossInit", train),
        "save": _node("PersonalizeSaveConcept", save),
    }


def picture_workflow(concept_name: str, prompt: str) -> Workflow:
    """Load Concept -> Apply Concept -> stock text encode, KSampler, VAE decode and Save Image."""
    apply = {
        "model": ["base", 0], "clip": ["base", 1], "concept": ["concept", 0],
        "strength": 1.0, "local_strength": 0.8, "start_percent": 0.0, "end_percent": 1.0,
    }  # fmt: skip
    sample = {
        "model": ["apply", 0], "positive": ["positive", 0], "negative": ["negative", 0],
        "latent_image": ["latent", 0], "seed": 1, "steps": 10, "cfg": 5.0,
        "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
    }  # fmt: skip
    return {
        "base": _node("CheckpointLoaderSimple", {"ckpt_name": CHECKPOINT}),
        "concept": _node("PersonalizeLoadConcept", {"concept_name": concept_name}),
        "apply": _node("PersonalizeApplyConcept", apply),
        "positive": _node("CLIPTextEncode", {"clip": ["apply", 1], "text": prompt}),
        "negative": _node("CLIPTextEncode", {"clip": ["apply", 1], "text": ""}),
        "latent": _node("EmptyLatentImage", {"width": 128, "height": 128, "batch_size": 1}),
        "sample": _node("KSampler", sample),
        "decode": _node("VAEDecode", {"samples": ["sample", 0], "vae": ["base", 2]}),
        "save": _node("SaveImage", {"images": ["decode", 0], "filename_prefix": "personalize"}),
    }


def learn_and_draw(client: ComfyClient, output: Path, steps: int) -> Path:
    """Run both workflows on a server; return the picture's path in its output folder."""
    names = [client.upload_image(f"ball{i}.png", png) for i, png in enumerate(draw_pictures())]
    run = client.run(training_workflow(names, "my-ball", steps), show_progress)
    saved = Path(run.outputs["save"]["concepts"][0])
    print(f"concept: {saved}")
    concept_name = saved.relative_to(output / "concepts").as_posix()
    run = client.run(picture_workflow(concept_name, f"a photo of {PLACEHOLDER} on the beach"))
    file = run.files("images")[0]
    return output / file["subfolder"] / file["filename"]


def show_progress(message: Message) -> None:
    """Print the progress texts of a run."""
    if message.kind == "text":
        print(f"  {message.data['text']}", flush=True)


def prepare_base(host: Path) -> Path:
    """The demo's base directory, with the tiny checkpoint in it."""
    base = make_base_directory(BASE)
    checkpoint = base / "models" / "checkpoints" / CHECKPOINT
    if not checkpoint.is_file():
        prepare_host(base_directory=base, host=host)
        from ..tests.host_models import make_checkpoint

        make_checkpoint(checkpoint, "sd1")
    return base


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    host = get_host()
    base = prepare_base(host)
    packs = {"personalize": ROOT, "tiny_models": ROOT / "tests" / "host_models"}
    with ComfyServer(host, base, packs) as server:
        print(f"ComfyUI answers at {server.base_url}")
        try:
            picture = learn_and_draw(server.client, base / "output", options.steps)
        except RunError as error:
            print(f"{error}\n{server.log()[-3000:]}", file=sys.stderr)
            return 1
    print(f"picture: {picture}")
    return 0


def _node(class_type: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}
