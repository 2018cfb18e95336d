"""The face example on a real server: draw a picture, learn a concept, save it, use it in a prompt.

The base model is tiny and random: the picture shows that everything runs, not the subject.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from .alias import prepare_host
from .comfy_client import ComfyClient, Message, Run, RunError, Workflow
from .comfy_server import ComfyServer, make_base_directory
from .get_host import ROOT, get_host
from .workflows import ObjectInfo, set_inputs, to_api

BASE = ROOT / ".demo"
CHECKPOINT = "tiny_sd1.safetensors"
EXAMPLE = ROOT / "example_workflows" / "learn-a-face-cross-initialization.json"


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


def demo_workflow(info: ObjectInfo, picture: str, steps: int) -> Workflow:
    """The face example in the API format, with the tiny model, small pictures and few steps."""
    prompt = to_api(json.loads(EXAMPLE.read_text(encoding="utf-8")), info)
    set_inputs(prompt, "CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    set_inputs(prompt, "LoadImage", image=picture)
    small = {"resolution": 64, "batch_size": 2, "preview_every": max(1, steps // 3)}
    every_time = {"preset": "custom", "steps": steps, "resume": False}
    set_inputs(prompt, "PersonalizeTrainCrossInit", **small, **every_time)
    set_inputs(prompt, "EmptyLatentImage", width=128, height=128)
    set_inputs(prompt, "KSampler", steps=10)
    return prompt


def learn_and_draw(client: ComfyClient, steps: int) -> Run:
    """Run the workflow on a server, from a picture that is drawn here."""
    picture = client.upload_image("demo-face.png", draw_face())
    return client.run(demo_workflow(client.object_info(), picture, steps), show_progress)


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
            run = learn_and_draw(server.client, options.steps)
        except RunError as error:
            print(f"{error}\n{server.log()[-3000:]}", file=sys.stderr)
            return 1
    for concept in run.files("concepts"):
        print(f"concept: {concept}")
    for file in run.files("images"):
        if file["type"] == "output":
            print(f"picture: {base / 'output' / file['subfolder'] / file['filename']}")
    return 0
