"""The examples again, set for the miniature: with its demo pack linked, they run as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...miniature.clip_folder import write_clip
from ...miniature.files import CHECKPOINT, VISION, WEIGHTS
from ...studies.miniature_models import GUIDANCE, SIZE, STEPS
from ...studies.recipes import RECIPES
from ..demo import QUICK, prepare_base
from .example import Example, Node

PREFIX = "miniature-"
SCORER = "miniature"  # in models/clip_metrics
ENCODER = RECIPES["elite"].encoder
SUBJECTS: dict[str, dict[str, Any]] = {
    "person": {"kind": "face", "number": 6, "pictures": 1},
    "dog": {"kind": "thing", "number": 5, "pictures": 4},
}
"""What is learned in the place of a loaded picture, by class word."""

WORDS = {
    "a photo of <me> person as a chef, in a kitchen": "a photo of a face of <me> person smiling "
    "on the beach",
    "a photo of <me> person on the beach": "a photo of a face of <me> person on the beach",
    "blurry, deformed, watermark": "",
    "photo of a cat with <my-dog:pose2> pose": "photo of a robot with <my-dog:pose2> pose",
}
"""Prompts in the few words that the miniature knows, for those that it does not."""

NOTE = """\
**This example needs nothing but this repository**: link its folder `miniature/comfy_pack` into \
`ComfyUI/custom_nodes`, and copy `miniature/weights/*.safetensors` into `models/checkpoints` \
(miniature) and `models/clip_vision` (miniature_vision).

The miniature Stable Diffusion draws 128 px pictures of a few things, places and faces. \
*Miniature Subject* draws one that it has never seen: change `number` for another."""

SAVED_NOTES = {
    "swap-pose-and-background-detex": f"""\
**Run *{PREFIX}learn-a-subject-detex* first**: this example draws with the file that it saved in \
`output/concepts`, and with the same miniature Stable Diffusion.

The world of the miniature knows no cats: the other prompt asks for a robot.""",
    "evaluate-a-concept": f"""\
**Run *{PREFIX}learn-a-thing-catversion* first**: this example draws with the file that it saved \
in `output/concepts`, and with the same miniature Stable Diffusion.

Its own CLIP scores. In the folder of this repository, this writes it:

`python -m miniature.clip_folder .../ComfyUI/models/clip_metrics/{SCORER}`""",
    "compare-concepts": f"""\
**Run *{PREFIX}learn-a-subject-custom-diffusion* and *{PREFIX}learn-a-thing-catversion* first**: \
this example draws with the files that they saved in `output/concepts`, and with the same \
miniature Stable Diffusion.""",
    "two-concepts-in-one-picture": f"""\
**Run *{PREFIX}learn-a-face-cross-initialization* and *{PREFIX}learn-a-thing-catversion* first**: \
this example draws with the files that they saved in `output/concepts`, and with the same \
miniature Stable Diffusion.

The miniature has learned from pictures with one thing or face each; two halves show both.""",
}

NEEDED = {
    PREFIX + "swap-pose-and-background-detex": (PREFIX + "learn-a-subject-detex",),
    PREFIX + "evaluate-a-concept": (PREFIX + "learn-a-thing-catversion",),
    PREFIX + "compare-concepts": (
        PREFIX + "learn-a-subject-custom-diffusion",
        PREFIX + "learn-a-thing-catversion",
    ),
    PREFIX + "two-concepts-in-one-picture": (
        PREFIX + "learn-a-face-cross-initialization",
        PREFIX + "learn-a-thing-catversion",
    ),
}
"""Examples that draw with the files of others."""

SAMPLING = {"steps": STEPS, "cfg": GUIDANCE, "sampler_name": "euler", "scheduler": "normal"}
TRAINING = {
    recipe.node: {"resolution": SIZE, "flip": False, **recipe.settings}
    for key, recipe in RECIPES.items()
    if recipe.settings and key != "ci"  # of Cross Initialization, the fast one
}
# more learn the places of the four pictures, too
TRAINING[RECIPES["custom"].node]["steps"] = QUICK["custom"]["steps"]
SETTINGS: dict[str, dict[str, Any]] = {
    "CheckpointLoaderSimple": {"ckpt_name": CHECKPOINT},
    "CLIPVisionLoader": {"clip_name": VISION},
    "PersonalizeLoadELITE": {"global_mapper": ENCODER, "local_mapper": "in the same file"},
    "PersonalizeEvaluate": {"clip_folder": SCORER},
    "PersonalizeCompare": {"steps": STEPS, "cfg": GUIDANCE, "resolution": SIZE},
    "EmptyLatentImage": {"width": SIZE, "height": SIZE},
    "ImageScale": {"width": SIZE, "height": SIZE},
    "KSampler": SAMPLING,
    **TRAINING,
}
OTHER_KIND = {"CLIPVisionLoader": "MiniatureLoadVision", "LoadImage": "MiniatureSubject"}


def on_miniature(example: Example) -> Example:
    """The same nodes and connections, other models, pictures, sizes and prompts."""
    words = [_class_word(node) for node in example.nodes.values()]
    subject = next((SUBJECTS[word] for word in words if word), None)
    nodes = {key: _set(node, subject) for key, node in example.nodes.items()}
    first = next(key for key, node in nodes.items() if node.kind == "MarkdownNote")
    nodes[first] = replace(nodes[first], widgets={"text": SAVED_NOTES.get(example.name, NOTE)})
    return replace(example, name=PREFIX + example.name, nodes=nodes)


def _class_word(node: Node) -> str | None:
    return node.widgets.get("class_word") or node.widgets.get("init_word")


def _set(node: Node, subject: dict[str, Any] | None) -> Node:
    changed = {**node.widgets, **SETTINGS.get(node.kind, {})}
    for name in ("filename", "concept_name"):  # its files are none of Stable Diffusion
        if name in changed:
            changed[name] = PREFIX + changed[name]
    if node.kind == "EmptyLatentImage":
        changed["width"] = node.widgets.get("width", 512) * SIZE // 512
    if node.kind == "LoadImage" and subject:
        changed = dict(subject)
    if node.kind == "CLIPTextEncode":
        changed["text"] = WORDS.get(changed["text"], changed["text"])
    if node.kind in TRAINING and "preset" in changed:
        changed["preset"] = "custom"  # the recipe's own steps and rate
    return replace(node, kind=OTHER_KIND.get(node.kind, node.kind), widgets=changed)


def base_for_examples(folder: Path) -> Path:
    """The demo's base directory, with the miniature's CLIP to score with, too."""
    base = prepare_base(base=folder)
    write_clip(base / "models" / "clip_metrics" / SCORER)
    return base


def can_run(example: Example) -> bool:
    """Are its files beside the miniature's weights? An ELITE encoder may not be."""
    kinds = {node.kind for node in example.nodes.values()}
    return "PersonalizeLoadELITE" not in kinds or (WEIGHTS / ENCODER).is_file()
