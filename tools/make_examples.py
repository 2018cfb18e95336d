"""Write example_workflows/ anew, with every node's inputs as a running server describes them.

    python tools/run.py make_examples

Run it after an input was added to a node; texts, settings and places are below.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .comfy_server import ComfyServer, make_base_directory
from .demo import PACKS
from .examples import Example, Group, Node, Source
from .get_host import ROOT, get_host
from .miniature_examples import can_run, on_miniature
from .workflows import ANY, ObjectInfo, SavedWorkflow, sockets, widgets

FOLDER = ROOT / "example_workflows"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
VISION = "clip-vit-large-patch14.safetensors"
SAM = "sam_vit_b_01ec64.pth"
SCORER = "clip-vit-large-patch14"
SCORED_PROMPT = "a photo of a <my-dog> on the beach"
MODELS: dict[Any, dict[str, str]] = {
    CHECKPOINT: {
        "name": CHECKPOINT,
        "url": "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/"
        + CHECKPOINT,
        "directory": "checkpoints",
    }
}
"""The host's own address of it, from its default workflow. For other files it has none."""

SAMPLING: dict[str, Any] = {
    "seed": 1,
    "steps": 30,
    "cfg": 7.0,
    "sampler_name": "dpmpp_2m",
    "scheduler": "karras",
}
DETEX_SAMPLING = {"steps": 50, "cfg": 6.0, "sampler_name": "ddim", "scheduler": "normal"}
COLOURS = {"model": "#3f789e", "learn": "#a1309b", "use": "#88aa44"}

Schema = dict[str, Any]  # a node's entry in /api/object_info
Widgets = Mapping[str, Any]
NOTHING: Widgets = MappingProxyType({})


def note(title: str, text: str, place: tuple[int, int], size: tuple[int, int]) -> Node:
    return Node("MarkdownNote", place, size, widgets={"text": text}, title=title)


MODEL_NOTE = """\
**Start here.** Choose a Stable Diffusion 1.x or 2.x checkpoint. This example names \
`{checkpoint}`, which belongs into `ComfyUI/models/checkpoints`.

Then load a picture of {subject}, at least 512 pixels wide. It is cropped to its centre square.

One picture is enough to begin. To use more, put them through *Create List*."""

FACE_LEARN_NOTE = """\
Two words are learned, started from the text encoder's own output for the mean of well-known names.

`preset` **quality**: 320 steps, **fast**: 25 steps. The node shows loss, speed and a preview.

**Cancel** whenever you like: the same settings go on from there at the next run.

For what is no face, set `class_word` to what it is (dog) and `init_from` to **class word**."""

FACE_USE_NOTE = """\
`<me>` now stands for the face, in any prompt, beside any other node. Try:

- a photo of `<me>` person as a chef, in a kitchen
- an oil painting of `<me>` person
- `(<me>:0.9)` person and a dog

Later, use *Load Concept* in the place of the Train node: the file lies in `output/concepts`."""

THING_LEARN_NOTE = """\
Residual keys and values in the last three text layers are learned: the class word, "dog", keeps \
its meaning and gains the subject's looks.

1000 steps. The node shows loss, speed and a preview.

**Cancel** whenever you like: the same settings go on from there at the next run.

`class_word` is what the subject is, in the simplest word for it."""

THING_USE_NOTE = """\
`<my-dog>` is encoded as "dog", with the residuals beside it. So write it as you would write dog:

- a photo of a `<my-dog>` on the beach
- a `<my-dog>` wearing a red hat

`strength` of *Apply Concept* moves from the plain word (0) to the subject (1) and beyond.

Later, use *Load Concept* in the place of the Train node: the file lies in `output/concepts`."""


WORD_LEARN_NOTE = """\
One new word is learned, the baseline of all the other methods: nothing of the model changes, and \
the file has a few kB.

`init_word` is what the subject is, in a single word. `vectors` more than 1 hold more detail and \
are harder to edit.

**Stop and keep** as soon as the preview is like it; **Cancel**, and the same settings go on from \
there at the next run."""

WORD_USE_NOTE = """\
`<my-dog>` is now a word like any other:

- a photo of a `<my-dog>` on the beach
- an oil painting of a `<my-dog>`, by `(<my-dog>:0.8)` its weight

*Save Concept* can write it as a stock embedding too (`also_as_embedding`), for people without \
this pack.

Later, use *Load Concept* in the place of the Train node: the file lies in `output/concepts`."""

WEIGHTS_LEARN_NOTE = """\
A word, and the keys and values of the model's cross attention. First the model makes **200 \
pictures of the class**, once, so that it does not forget what other dogs look like; connect \
`prior_images` to give your own.

**Stop and keep** as soon as the preview is like it; **Cancel**, and the same settings go on from \
there at the next run."""

WEIGHTS_USE_NOTE = """\
`<my-dog>` stands for "<new word> dog", so the class word is not written again:

- a photo of a `<my-dog>` on the beach
- a `<my-dog>` wearing a red hat

The file has 76 MB; `rank` of *Save Concept* makes it smaller.

Later, use *Load Concept* in the place of the Train node: the file lies in `output/concepts`."""


@dataclass(frozen=True)
class Learning:
    """What tells one learn-and-use example from another."""

    name: str
    node: str
    widgets: dict[str, Any]
    file: str
    prompt: str
    notes: tuple[str, str, str]  # model and picture, learn, use


def learn_and_use(learning: Learning) -> Example:
    """Checkpoint and picture, a Train node with its savers, and a prompt that uses the concept."""
    model_text, learn_text, use_text = learning.notes
    nodes = {
        "model_note": note("1. Model and picture", model_text, (0, -290), (330, 270)),
        "base": Node(
            "CheckpointLoaderSimple", (0, 60), (330, 120), widgets={"ckpt_name": CHECKPOINT}
        ),
        "picture": Node("LoadImage", (0, 230), (330, 360), widgets={"image": "example.png"}),
        "learn_note": note("2. Learn", learn_text, (410, -290), (400, 270)),
        "train": Node(
            learning.node,
            (410, 60),
            (400, 1040),
            {
                "model": ("base", 0),
                "clip": ("base", 1),
                "vae": ("base", 2),
                "images": ("picture", 0),
            },
            learning.widgets,
        ),
        "save": Node(
            "PersonalizeSaveConcept",
            (410, 1150),
            (400, 225),
            {"concept": ("train", 0)},
            {"filename": learning.file},
        ),
        "losses": Node("LossGraphNode", (410, 1425), (400, 300), {"loss": ("train", 1)}),
        **drawing(("train", 0), use_text, learning.prompt, learning.file),
    }
    groups = (
        Group("1. Model and picture", (-20, -20, 370, 640), COLOURS["model"]),
        Group("2. Learn", (390, -20, 440, 1765), COLOURS["learn"]),
        Group("3. Use it in any prompt", (870, -20, 830, 900), COLOURS["use"]),
    )
    return Example(learning.name, nodes, groups)


def drawing(
    concept: Source,
    text: str,
    prompt: str,
    file: str,
    apply: Widgets = NOTHING,
    sample: Widgets = NOTHING,
    start: dict[str, Node] | None = None,
) -> dict[str, Node]:
    """The third column: a prompt that names the concept, drawn and saved.

    apply, sample: widgets of Apply Concept and KSampler unlike those of all examples
    start: the nodes that make the latent, the last one under the key "latent"; empty by default
    """
    return {
        "use_note": note("3. Use it in prompts", text, (890, -290), (400, 270)),
        "apply": Node(
            "PersonalizeApplyConcept",
            (890, 60),
            (400, 290),
            {"model": ("base", 0), "clip": ("base", 1), "concept": concept},
            dict(apply),
        ),
        "positive": Node(
            "CLIPTextEncode", (890, 400), (400, 130), {"clip": ("apply", 1)}, {"text": prompt}
        ),
        "negative": Node(
            "CLIPTextEncode",
            (890, 580),
            (400, 110),
            {"clip": ("apply", 1)},
            {"text": "blurry, deformed, watermark"},
        ),
        **(start or {"latent": Node("EmptyLatentImage", (890, 740), (400, 120))}),
        "sample": Node(
            "KSampler",
            (1350, 60),
            (330, 270),
            {
                "model": ("apply", 0),
                "positive": ("positive", 0),
                "negative": ("negative", 0),
                "latent_image": ("latent", 0),
            },
            {**SAMPLING, **sample},
        ),
        "decode": Node(
            "VAEDecode", (1350, 380), (330, 55), {"samples": ("sample", 0), "vae": ("base", 2)}
        ),
        "picture_saved": Node(
            "SaveImage",
            (1350, 485),
            (330, 375),
            {"images": ("decode", 0)},
            {"filename_prefix": f"personalize/{file}"},
        ),
    }


def encode_and_use(name: str, third: dict[str, Node]) -> Example:
    """Checkpoint, encoder and picture, ELITE Encode with its saver, and the third column."""
    nodes = {
        "model_note": note(
            "1. Model, encoder and picture", ELITE_MODEL_NOTE, (0, -290), (330, 270)
        ),
        "base": Node(
            "CheckpointLoaderSimple", (0, 60), (330, 120), widgets={"ckpt_name": CHECKPOINT}
        ),
        "vision": Node("CLIPVisionLoader", (0, 230), (330, 90), widgets={"clip_name": VISION}),
        "elite": Node(
            "PersonalizeLoadELITE",
            (0, 370),
            (330, 115),
            widgets={"global_mapper": "global_mapper.pt", "local_mapper": "local_mapper.pt"},
        ),
        "picture": Node("LoadImage", (0, 535), (330, 360), widgets={"image": "example.png"}),
        "encode_note": note("2. Encode", ELITE_ENCODE_NOTE, (410, -290), (400, 270)),
        "encode": Node(
            "PersonalizeEncodeELITE",
            (410, 60),
            (400, 200),
            {
                "elite": ("elite", 0),
                "clip_vision": ("vision", 0),
                "image": ("picture", 0),
                "mask": ("picture", 1),
            },
            {"placeholder": "<my-dog>", "class_word": "dog"},
        ),
        "save": Node(
            "PersonalizeSaveConcept",
            (410, 310),
            (400, 225),
            {"concept": ("encode", 0)},
            {"filename": "my-dog-elite"},
        ),
        **third,
    }
    groups = (
        Group("1. Model, encoder and picture", (-20, -20, 370, 935), COLOURS["model"]),
        Group("2. Encode", (390, -20, 440, 575), COLOURS["learn"]),
        Group("3. Use it in any prompt", (870, -20, 830, 1035), COLOURS["use"]),
    )
    return Example(name, nodes, groups)


def learn_apart(pictures: dict[str, Node], images: Source, masks: Source) -> Example:
    """Checkpoint, encoder and pictures with masks, Train DETEX with its savers, and a prompt."""
    use = drawing(
        ("train", 0),
        DETEX_USE_NOTE,
        "a photo of a <my-dog> on the beach",
        DETEX_FILE,
        sample=DETEX_SAMPLING,
    )
    nodes = {
        "model_note": note("1. Models and pictures", DETEX_MODEL_NOTE, (0, -290), (670, 250)),
        "base": Node(
            "CheckpointLoaderSimple", (0, 60), (320, 120), widgets={"ckpt_name": CHECKPOINT}
        ),
        "vision": Node("CLIPVisionLoader", (350, 60), (320, 90), widgets={"clip_name": VISION}),
        **pictures,
        "mask_note": note("2. Masks", DETEX_MASK_NOTE, (740, -290), (330, 250)),
        "learn_note": note("3. Learn", DETEX_LEARN_NOTE, (1150, -330), (400, 290)),
        "train": Node(
            "PersonalizeTrainDETEX",
            (1150, 60),
            (400, 1150),
            {
                "model": ("base", 0),
                "clip": ("base", 1),
                "vae": ("base", 2),
                "clip_vision": ("vision", 0),
                "images": images,
                "masks": masks,
            },
            {"placeholder": "<my-dog>", "class_word": "dog"},
        ),
        "save": Node(
            "PersonalizeSaveConcept",
            (1150, 1260),
            (400, 225),
            {"concept": ("train", 0)},
            {"filename": DETEX_FILE},
        ),
        "losses": Node("LossGraphNode", (1150, 1535), (400, 300), {"loss": ("train", 1)}),
        **{key: _shifted(node, 740) for key, node in use.items()},
    }
    nodes["use_note"] = replace(nodes["use_note"], title="4. Use it in any prompt")
    groups = (
        Group("1. Models and pictures", (-20, -20, 710, 1090), COLOURS["model"]),
        Group("2. Masks", (720, -20, 370, 1000), COLOURS["model"]),
        Group("3. Learn", (1130, -20, 440, 1875), COLOURS["learn"]),
        Group("4. Use it in any prompt", (1610, -20, 830, 900), COLOURS["use"]),
    )
    return Example("learn-a-subject-detex", nodes, groups)


def _shifted(node: Node, right: int) -> Node:
    return replace(node, place=(node.place[0] + right, node.place[1]))


def swap() -> Example:
    """A saved DETEX concept, and two prompts with its attribute words."""
    prompts = {
        "swapped": "photo of a <my-dog> with <my-dog:pose2> pose in <my-dog:background1> "
        "background",
        "other": "photo of a cat with <my-dog:pose2> pose",
    }
    nodes = {
        "model_note": note(
            "1. Model and concept", SWAP_MODEL_NOTE.format(name=DETEX_FILE), (0, -290), (360, 270)
        ),
        "base": Node(
            "CheckpointLoaderSimple", (0, 60), (360, 120), widgets={"ckpt_name": CHECKPOINT}
        ),
        "concept": Node(
            "PersonalizeLoadConcept",
            (0, 230),
            (360, 190),
            widgets={"concept_name": f"{DETEX_FILE}.safetensors"},
        ),
        "apply": Node(
            "PersonalizeApplyConcept",
            (0, 470),
            (360, 290),
            {"model": ("base", 0), "clip": ("base", 1), "concept": ("concept", 0)},
        ),
        "prompt_note": note("2. Prompts", SWAP_PROMPT_NOTE, (440, -290), (400, 270)),
        "negative": Node(
            "CLIPTextEncode",
            (440, 480),
            (400, 110),
            {"clip": ("apply", 1)},
            {"text": "blurry, deformed, watermark"},
        ),
        "latent": Node("EmptyLatentImage", (440, 640), (400, 120)),
        "draw_note": note("3. Pictures", SWAP_DRAW_NOTE, (920, -290), (720, 270)),
    }
    for n, (key, prompt) in enumerate(prompts.items()):
        nodes |= _swap_drawn(key, prompt, 60 + 210 * n, 920 + 390 * n)
    groups = (
        Group("1. Model and concept", (-20, -20, 400, 800), COLOURS["model"]),
        Group("2. Prompts", (420, -20, 440, 800), COLOURS["learn"]),
        Group("3. Pictures", (900, -20, 760, 840), COLOURS["use"]),
    )
    return Example("swap-pose-and-background-detex", nodes, groups)


def _swap_drawn(key: str, prompt: str, prompt_top: int, left: int) -> dict[str, Node]:
    return {
        key: Node(
            "CLIPTextEncode", (440, prompt_top), (400, 160), {"clip": ("apply", 1)},
            {"text": prompt},
        ),
        f"sample_{key}": Node(
            "KSampler", (left, 60), (330, 270),
            {
                "model": ("apply", 0),
                "positive": (key, 0),
                "negative": ("negative", 0),
                "latent_image": ("latent", 0),
            },
            {**SAMPLING, **DETEX_SAMPLING},
        ),
        f"decode_{key}": Node(
            "VAEDecode", (left, 380), (330, 55),
            {"samples": (f"sample_{key}", 0), "vae": ("base", 2)},
        ),
        f"saved_{key}": Node(
            "SaveImage", (left, 485), (330, 315), {"images": (f"decode_{key}", 0)},
            {"filename_prefix": f"personalize/{DETEX_FILE}"},
        ),
    }  # fmt: skip


TWO_MODEL_NOTE = """\
**Start here.** Run *learn-a-face-cross-initialization* and *learn-a-thing-catversion* first: this \
example draws with the files that they saved in `output/concepts`, and the same checkpoint.

Each *Apply Concept* makes one more placeholder known. Methods may differ, the family may not."""

TWO_PROMPT_NOTE = """\
One prompt a subject, each for **its half of the picture**: so neither bleeds into the other.

One prompt with both, such as `<me>` person with a `<my-dog>`, works too, and mixes them more.

With Custom Diffusion and DETEX concepts, switch `own_prompts_only` on in both *Apply Concept*."""

TWO_DRAW_NOTE = """\
*Conditioning (Set Area with Percentage)* gives each prompt its half, *Conditioning (Combine)* \
joins them. `strength` of an area that is too weak may go up to 1.3."""


def two_concepts() -> Example:
    """Two saved concepts, each in its own half of one picture."""
    halves = {"left": ("a photo of <me> person", 0.0), "right": ("a photo of a <my-dog>", 0.5)}
    nodes = {
        "model_note": note("1. Model and concepts", TWO_MODEL_NOTE, (0, -290), (780, 220)),
        "base": Node(
            "CheckpointLoaderSimple", (0, 60), (360, 120), widgets={"ckpt_name": CHECKPOINT}
        ),
        "me": _loaded("me", (0, 230)),
        "dog": _loaded("my-dog", (0, 470)),
        "apply_me": _applied("base", "me", (420, 60)),
        "apply": _applied("apply_me", "dog", (420, 400)),
        "prompt_note": note("2. A prompt for each half", TWO_PROMPT_NOTE, (860, -290), (400, 250)),
        **{
            key: Node(
                "CLIPTextEncode", (860, 60 + 180 * n), (400, 130), {"clip": ("apply", 1)},
                {"text": prompt},
            )
            for n, (key, (prompt, _)) in enumerate(halves.items())
        },
        "negative": Node(
            "CLIPTextEncode", (860, 420), (400, 110), {"clip": ("apply", 1)},
            {"text": "blurry, deformed, watermark"},
        ),
        "latent": Node(
            "EmptyLatentImage", (860, 580), (400, 120), widgets={"width": 768, "height": 512}
        ),
        "draw_note": note("3. One picture", TWO_DRAW_NOTE, (1340, -290), (720, 180)),
        **{
            f"{key}_half": Node(
                "ConditioningSetAreaPercentage", (1340, 60 + 230 * n), (330, 180),
                {"conditioning": (key, 0)},
                {"width": 0.5, "height": 1.0, "x": x, "y": 0.0, "strength": 1.0},
            )
            for n, (key, (_, x)) in enumerate(halves.items())
        },
        "both": Node(
            "ConditioningCombine", (1340, 520), (330, 60),
            {"conditioning_1": ("left_half", 0), "conditioning_2": ("right_half", 0)},
        ),
        "sample": Node(
            "KSampler", (1730, 60), (330, 270),
            {
                "model": ("apply", 0),
                "positive": ("both", 0),
                "negative": ("negative", 0),
                "latent_image": ("latent", 0),
            },
            dict(SAMPLING),
        ),
        "decode": Node(
            "VAEDecode", (1730, 380), (330, 55), {"samples": ("sample", 0), "vae": ("base", 2)}
        ),
        "saved": Node(
            "SaveImage", (1730, 485), (330, 315), {"images": ("decode", 0)},
            {"filename_prefix": "personalize/two-concepts"},
        ),
    }  # fmt: skip
    groups = (
        Group("1. Model and concepts", (-20, -20, 820, 730), COLOURS["model"]),
        Group("2. A prompt for each half", (840, -20, 440, 740), COLOURS["learn"]),
        Group("3. One picture", (1320, -20, 760, 840), COLOURS["use"]),
    )
    return Example("two-concepts-in-one-picture", nodes, groups)


def _loaded(file: str, place: tuple[int, int]) -> Node:
    name = {"concept_name": f"{file}.safetensors"}
    return Node("PersonalizeLoadConcept", place, (360, 190), widgets=name)


def _applied(models: str, concept: str, place: tuple[int, int]) -> Node:
    links = {"model": (models, 0), "clip": (models, 1), "concept": (concept, 0)}
    return Node("PersonalizeApplyConcept", place, (360, 290), links)


SCORE_MODEL_NOTE = """\
**Start here.** Run *learn-a-thing-catversion* first: this example draws with the file that it \
saved in `output/concepts`. Load the picture that it was learned from."""

SCORE_DRAW_NOTE = """\
Four pictures of one prompt. More pictures and more prompts make the scores say more: five prompts \
with four pictures each is a fair start."""

SCORE_NOTE = """\
**CLIP-T**: does the picture show what the prompt says? **CLIP-I** and **DINO-I**: is it the \
subject?

`clip_folder` is a folder in `models/clip_metrics` with the files of a CLIP in transformers' \
layout, such as those of openai/clip-vit-large-patch14. Nothing is downloaded.

`filename` writes a table to `output/scores`."""


def evaluation() -> Example:
    """A saved concept, four pictures of it, and their scores."""
    nodes = {
        "model_note": note("1. Model, concept, picture", SCORE_MODEL_NOTE, (0, -290), (360, 220)),
        "base": Node(
            "CheckpointLoaderSimple", (0, 60), (360, 120), widgets={"ckpt_name": CHECKPOINT}
        ),
        "concept": _loaded("my-dog", (0, 230)),
        "picture": Node("LoadImage", (0, 470), (360, 360), widgets={"image": "example.png"}),
        "draw_note": note("2. Pictures", SCORE_DRAW_NOTE, (440, -290), (740, 180)),
        "apply": _applied("base", "concept", (440, 60)),
        "positive": Node(
            "CLIPTextEncode", (440, 400), (360, 130), {"clip": ("apply", 1)},
            {"text": SCORED_PROMPT},
        ),
        "negative": Node(
            "CLIPTextEncode", (440, 580), (360, 110), {"clip": ("apply", 1)},
            {"text": "blurry, deformed, watermark"},
        ),
        "latent": Node(
            "EmptyLatentImage", (440, 740), (360, 120), widgets={"batch_size": 4}
        ),
        "sample": Node(
            "KSampler", (850, 60), (330, 270),
            {
                "model": ("apply", 0),
                "positive": ("positive", 0),
                "negative": ("negative", 0),
                "latent_image": ("latent", 0),
            },
            dict(SAMPLING),
        ),
        "decode": Node(
            "VAEDecode", (850, 380), (330, 55), {"samples": ("sample", 0), "vae": ("base", 2)}
        ),
        "score_note": note("3. Scores", SCORE_NOTE, (1260, -330), (830, 260)),
        "evaluate": Node(
            "PersonalizeEvaluate", (1260, 60), (400, 560),
            {"generated": ("decode", 0), "references": ("picture", 0)},
            {"prompt": SCORED_PROMPT, "class_word": "dog", "clip_folder": SCORER},
        ),
        "report": Node(
            "PreviewImage", (1710, 60), (380, 560), {"images": ("evaluate", 1)}
        ),
    }  # fmt: skip
    groups = (
        Group("1. Model, concept, picture", (-20, -20, 400, 870), COLOURS["model"]),
        Group("2. Pictures", (420, -20, 780, 900), COLOURS["learn"]),
        Group("3. Scores", (1240, -20, 870, 660), COLOURS["use"]),
    )
    return Example("evaluate-a-concept", nodes, groups)


FACE = Learning(
    "learn-a-face-cross-initialization",
    "PersonalizeTrainCrossInit",
    {"placeholder": "<me>", "class_word": "person", "preset": "quality"},
    "me",
    "a photo of <me> person as a chef, in a kitchen",
    (
        MODEL_NOTE.format(checkpoint=CHECKPOINT, subject="**one face**, looking at the camera"),
        FACE_LEARN_NOTE,
        FACE_USE_NOTE,
    ),
)
THING = Learning(
    "learn-a-thing-catversion",
    "PersonalizeTrainCatVersion",
    {"placeholder": "<my-dog>", "class_word": "dog"},
    "my-dog",
    "a photo of a <my-dog> on the beach",
    (
        MODEL_NOTE.format(checkpoint=CHECKPOINT, subject="**one thing** or animal, seen whole"),
        THING_LEARN_NOTE,
        THING_USE_NOTE,
    ),
)
WORD = Learning(
    "learn-a-thing-textual-inversion",
    "PersonalizeTrainTextualInversion",
    {"placeholder": "<my-dog>", "init_word": "dog"},
    "my-dog-word",
    "a photo of a <my-dog> on the beach",
    (
        MODEL_NOTE.format(checkpoint=CHECKPOINT, subject="**one thing** or animal, seen whole"),
        WORD_LEARN_NOTE,
        WORD_USE_NOTE,
    ),
)
WEIGHTS = Learning(
    "learn-a-subject-custom-diffusion",
    "PersonalizeTrainCustomDiffusion",
    {"placeholder": "<my-dog>", "class_word": "dog"},
    "my-dog-custom",
    "a photo of a <my-dog> on the beach",
    (
        MODEL_NOTE.format(checkpoint=CHECKPOINT, subject="**one thing** or animal, seen whole"),
        WEIGHTS_LEARN_NOTE,
        WEIGHTS_USE_NOTE,
    ),
)

ELITE_MODEL_NOTE = f"""\
**Start here.** Choose a Stable Diffusion 1.x checkpoint, the CLIP ViT-L/14 vision encoder \
(this example names `{VISION}`, in `models/clip_vision`) and the encoder: the official \
`global_mapper.pt` and `local_mapper.pt` in `models/elite`, or one of this pack.

Load a **square** picture that shows the subject large, then paint over the subject: right-click, \
*Open in Mask Editor*. Without paint the mask is empty: pull its link off to use the whole \
picture."""

ELITE_ENCODE_NOTE = """\
One pass, no training. The picture becomes a **word** and **details** for the cross attention.

What is painted in the mask counts for the details; its edge need not be exact.

*Save Concept* keeps it. The file needs the encoder's file beside it, unless `embed_encoder` is \
on."""

ELITE_GENERATE_NOTE = """\
`<my-dog>` now stands for the subject. To put it somewhere new, `local_strength` **0.8**:

- a photo of `<my-dog>` on the beach
- `<my-dog>` sleeping in a basket

More keeps more of the picture's details, up to 1.2, and less lets the prompt say more. \
`end_percent` 0.7 leaves the last steps to the model alone."""

ELITE_EDIT_NOTE = """\
To change the subject itself, `local_strength` **0.6**: the prompt gets its say.

- a photo of `<my-dog>` wearing a red hat
- `<my-dog>` made of wood

Sampling starts from the picture itself. `denoise` of *KSampler* says how far to go: 0.5 keeps the \
composition, 1 forgets the picture and keeps the subject only."""

DETEX_MODEL_NOTE = f"""\
**Start here.** Choose a Stable Diffusion 1.x or 2.x checkpoint, the CLIP ViT-L/14 vision encoder \
(this example names `{VISION}`, in `models/clip_vision`) and a SAM file (`{SAM}`, in \
`models/sams`).

Load **four pictures of one subject in other poses and places**. Their order is their number: the \
second one's pose will be `<my-dog:pose2>`. Each is cropped to its centre square."""

DETEX_MASK_NOTE = """\
*Segment Subject* finds the subject in each picture; look at its preview before you train.

Where it is wrong: set `candidate`, or write `points` on the subject. Or paint masks in the mask \
editor and put them through a *Create List* of their own."""

DETEX_LEARN_NOTE = """\
The subject, each picture's pose and each picture's background become words of their own.

`pose_word` **pose** for what moves, **view** for rigid things such as a mug.

600 steps, after 200 pictures of the class that the model makes once. The second preview has the \
first picture's pose and background.

**Cancel** whenever you like: the same settings go on from there at the next run."""

DETEX_USE_NOTE = """\
`<my-dog>` is the subject alone, in any pose and place that you ask for:

- a photo of a `<my-dog>` on the beach
- a photo of a `<my-dog>` with `<my-dog:pose2>` pose

The example *swap-pose-and-background-detex* goes on from the saved file."""

SWAP_MODEL_NOTE = """\
**Start here.** Run *learn-a-subject-detex* first: this example draws with the file that it saved, \
`{name}.safetensors` in `output/concepts`, and the same checkpoint.

*Apply Concept* makes the words known to all prompts."""

SWAP_PROMPT_NOTE = """\
Above, the **pose of the second** picture in the **background of the first**. Below, **another \
animal** in the pose of the second.

Try other numbers, or leave a part out:

- photo of a `<my-dog>` with `<my-dog:pose3>` pose on the beach
- photo of a cat in `<my-dog:background1>` background"""

SWAP_DRAW_NOTE = """\
Both start from the same noise, with the sampler of the paper: DDIM, 50 steps, guidance 6.

With `pose_word` **view** in the training, write "view" after the pose word."""

FROM_PICTURE = {
    "scaled": Node(
        "ImageScale",
        (890, 740),
        (400, 150),
        {"image": ("picture", 0)},
        {"upscale_method": "lanczos", "width": 512, "height": 512, "crop": "center"},
    ),
    "latent": Node(
        "VAEEncode", (890, 940), (400, 55), {"pixels": ("scaled", 0), "vae": ("base", 2)}
    ),
}
GENERATE = encode_and_use(
    "elite-one-picture",
    drawing(
        ("encode", 0),
        ELITE_GENERATE_NOTE,
        "a photo of <my-dog> on the beach",
        "my-dog-elite",
        {"local_strength": 0.8},
        {"cfg": 5.0},
    ),
)
EDIT = encode_and_use(
    "elite-edit-a-picture",
    drawing(
        ("encode", 0),
        ELITE_EDIT_NOTE,
        "a photo of <my-dog> wearing a red hat",
        "my-dog-edited",
        {"local_strength": 0.6},
        {"cfg": 5.0, "denoise": 0.75},
        FROM_PICTURE,
    ),
)
FOUR_PICTURES = {
    "sam": Node("PersonalizeLoadSAM", (350, 200), (320, 90), widgets={"sam_name": SAM}),
    **{
        f"picture{n + 1}": Node(
            "LoadImage", (n % 2 * 350, 340 + n // 2 * 380), (320, 330),
            widgets={"image": "example.png"}, title=f"Picture {n + 1}",
        )
        for n in range(4)
    },
    "list": Node(
        "CreateList", (740, 60), (330, 150),
        {f"inputs.input{n}": (f"picture{n + 1}", 0) for n in range(4)}, carries="IMAGE",
    ),
    "segment": Node(
        "PersonalizeSegmentSubject", (740, 260), (330, 700),
        {"sam_model": ("sam", 0), "image": ("list", 0)},
    ),
}  # fmt: skip
DETEX_FILE = "my-dog-detex"
ONE_SUBJECT = {"picture": Node("LoadImage", (0, 340), (320, 330), widgets={"image": "example.png"})}
STABLE_DIFFUSION = (
    learn_and_use(FACE),
    learn_and_use(THING),
    learn_and_use(WORD),
    learn_and_use(WEIGHTS),
    GENERATE,
    EDIT,
    learn_apart(FOUR_PICTURES, ("list", 0), ("segment", 0)),
    swap(),
    two_concepts(),
    evaluation(),
)
MINIATURE = tuple(
    on_miniature(e)
    for e in (
        *STABLE_DIFFUSION[:6],
        learn_apart(ONE_SUBJECT, ("picture", 0), ("picture", 1)),
        swap(),
        two_concepts(),
    )
    if can_run(e)
)
EXAMPLES = (*STABLE_DIFFUSION, *MINIATURE)


def saved_workflow(example: Example, info: ObjectInfo) -> SavedWorkflow:
    """The example as the browser would save it."""
    links = _links(example, info)
    nodes = [
        _saved_node(number, node, info.get(node.kind), links)
        for number, node in enumerate(example.nodes.values(), start=1)
    ]
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"personalize/{example.name}")),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [_saved_group(n, g) for n, g in enumerate(example.groups, start=1)],
        "config": {},
        "extra": {"ds": {"scale": 0.7, "offset": [60, 340]}},
        "version": 0.4,
    }


def _links(example: Example, info: ObjectInfo) -> list[list[Any]]:
    """[link id, source id, output, target id, input slot, type] of every connection."""
    ids = {key: number for number, key in enumerate(example.nodes, start=1)}
    links: list[list[Any]] = []
    for key, node in example.nodes.items():
        for slot, (name, kind) in enumerate(_sockets(node, info.get(node.kind))):
            if name in node.links:
                source, output = node.links[name]
                links.append([len(links) + 1, ids[source], output, ids[key], slot, kind])
    return links


def _sockets(node: Node, schema: Schema | None) -> list[tuple[str, Any]]:
    if schema is None:
        return []
    return [(name, _type(node, kind)) for name, kind in sockets(schema, node.links)]


def _type(node: Node, kind: Any) -> Any:
    return node.carries if kind == ANY else kind


def _saved_node(
    number: int, node: Node, schema: Schema | None, links: Sequence[Sequence[Any]]
) -> dict[str, Any]:
    into = {slot: link for link, _, _, target, slot, _ in links if target == number}
    packs = {"Perso": "personalize", "Minia": "personalize-miniature"}
    pack = packs.get(node.kind[:5], "comfy-core")
    outputs = zip(schema["output_name"], schema["output"], strict=True) if schema else ()
    saved = {
        "id": number,
        "type": node.kind,
        "pos": list(node.place),
        "size": list(node.size),
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": [
            {"name": name, "type": kind, "link": into.get(slot)}
            for slot, (name, kind) in enumerate(_sockets(node, schema))
        ],
        "outputs": [
            {
                "name": name,
                "type": _type(node, kind),
                "links": [n for n, *at in links if at[:2] == [number, out]],
            }
            for out, (name, kind) in enumerate(outputs)
        ],
        "properties": {"Node name for S&R": node.kind, "cnr_id": pack, **_hint(node)},
        "widgets_values": _values(node, schema),
    }
    if node.title:
        saved |= {"title": node.title, "color": "#432", "bgcolor": "#653"}
    return saved


def _hint(node: Node) -> dict[str, Any]:
    """Where the host may offer to download a file that is missing, as it does for its own."""
    found = [MODELS[value] for value in node.widgets.values() if value in MODELS]
    return {"models": found} if found else {}


def _values(node: Node, schema: Schema | None) -> list[Any]:
    if schema is None:
        return list(node.widgets.values())
    known = {name for name, _, _ in widgets(schema)}
    if not set(node.widgets) <= known:
        raise KeyError(f"{node.kind} has no widgets {set(node.widgets) - known}")
    values: list[Any] = []
    for name, default, extra in widgets(schema):
        values += [node.widgets.get(name, default), *extra]
    return values


def _saved_group(number: int, group: Group) -> dict[str, Any]:
    return {
        "id": number,
        "title": group.title,
        "bounding": list(group.bounds),
        "color": group.colour,
        "font_size": 24,
        "flags": {},
    }


def main(arguments: Sequence[str]) -> int:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        base = make_base_directory(Path(folder))
        with ComfyServer(get_host(), base, PACKS) as server:
            info = server.client.object_info()
    for example in EXAMPLES:
        path = FOLDER / f"{example.name}.json"
        text = json.dumps(saved_workflow(example, info), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0
