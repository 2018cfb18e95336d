"""Write example_workflows/ anew, with every node's inputs as a running server describes them.

    python tools/run.py make_examples

Run it after an input was added to a node; texts, settings and places are below.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...cli.comfyui import ROOT
from ..demo import PACKS
from ..get_host import get_host
from ..server.server import ComfyServer, make_base_directory
from .example import Example, Group, Node, Source
from .miniature_examples import can_run, on_miniature
from .notes import (
    CHECKPOINT,
    COMPARE_MODEL_NOTE,
    COMPARE_NOTE,
    DETEX_LEARN_NOTE,
    DETEX_MASK_NOTE,
    DETEX_MODEL_NOTE,
    DETEX_USE_NOTE,
    ELITE_EDIT_NOTE,
    ELITE_ENCODE_NOTE,
    ELITE_GENERATE_NOTE,
    ELITE_MODEL_NOTE,
    FACE_LEARN_NOTE,
    FACE_USE_NOTE,
    MODEL_NOTE,
    SAM,
    SCORE_DRAW_NOTE,
    SCORE_MODEL_NOTE,
    SCORE_NOTE,
    SWAP_DRAW_NOTE,
    SWAP_MODEL_NOTE,
    SWAP_PROMPT_NOTE,
    THING_LEARN_NOTE,
    THING_USE_NOTE,
    TWO_DRAW_NOTE,
    TWO_MODEL_NOTE,
    TWO_PROMPT_NOTE,
    VISION,
    WEIGHTS_LEARN_NOTE,
    WEIGHTS_USE_NOTE,
    WORD_LEARN_NOTE,
    WORD_USE_NOTE,
)
from .saved_examples import saved_workflow

FOLDER = ROOT / "example_workflows"
SCORER = "clip-vit-large-patch14"
COMPARED = "a photo of a {}\na photo of a {} on the beach"
SCORED_PROMPT = "a photo of a <my-dog> on the beach"

SAMPLING: dict[str, Any] = {
    "seed": 1,
    "steps": 30,
    "cfg": 7.0,
    "sampler_name": "dpmpp_2m",
    "scheduler": "karras",
}
DETEX_SAMPLING = {"steps": 50, "cfg": 6.0, "sampler_name": "ddim", "scheduler": "normal"}
COLOURS = {"model": "#3f789e", "learn": "#a1309b", "use": "#88aa44"}

Widgets = Mapping[str, Any]
NOTHING: Widgets = MappingProxyType({})


def note(title: str, text: str, place: tuple[int, int], size: tuple[int, int]) -> Node:
    return Node("MarkdownNote", place, size, widgets={"text": text}, title=title)


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


def two_concepts() -> Example:
    """Two saved concepts, each in its own half of one picture."""
    halves = {
        "left": ("a photo of <me> person on the beach", 0.0),
        "right": ("a photo of a <my-dog> on the beach", 0.5),
    }
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
            "EmptyLatentImage", (860, 580), (400, 120), widgets={"width": 1024, "height": 512}
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


def comparison() -> Example:
    """Two saved concepts at two strengths with two prompts, as one grid."""
    models = {"model": ("base", 0), "clip": ("base", 1), "vae": ("base", 2)}
    concepts = {f"concepts.concept{n}": (key, 0) for n, key in enumerate(("first", "second"))}
    nodes = {
        "model_note": note("1. Model and concepts", COMPARE_MODEL_NOTE, (0, -290), (360, 270)),
        "base": Node(
            "CheckpointLoaderSimple", (0, 60), (360, 120), widgets={"ckpt_name": CHECKPOINT}
        ),
        "first": _loaded("my-dog", (0, 230)),
        "second": _loaded("my-dog-custom", (0, 470)),
        "compare_note": note("2. Compare", COMPARE_NOTE, (440, -290), (860, 250)),
        "compare": Node(
            "PersonalizeCompare", (440, 60), (400, 700), {**models, **concepts},
            {"prompts": COMPARED, "strengths": "0.5, 1"}, carries="CONCEPT",
        ),
        "report": Node(
            "SaveImage", (890, 60), (410, 560), {"images": ("compare", 0)},
            {"filename_prefix": "personalize/compared"},
        ),
    }  # fmt: skip
    groups = (
        Group("1. Model and concepts", (-20, -20, 400, 710), COLOURS["model"]),
        Group("2. Compare", (420, -20, 900, 800), COLOURS["use"]),
    )
    return Example("compare-concepts", nodes, groups)


def evaluation(masks: dict[str, Source] | None = None) -> Example:
    """A saved concept, four pictures of it, and their scores.

    masks: what Evaluate Concept gets of them, if there are any
    """
    nodes = {
        "model_note": note("1. Model, concept, picture", SCORE_MODEL_NOTE, (0, -290), (360, 270)),
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
            {"generated": ("decode", 0), "references": ("picture", 0), **(masks or {})},
            {"prompt": SCORED_PROMPT, "class_word": "dog", "clip_folder": SCORER},
        ),
        "report": Node(
            "SaveImage", (1710, 60), (380, 560), {"images": ("evaluate", 1)},
            {"filename_prefix": "personalize/my-dog-scores"},
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
    comparison(),
    evaluation(),
)
MINIATURE = tuple(
    on_miniature(e)
    for e in (
        *STABLE_DIFFUSION[:6],
        learn_apart(ONE_SUBJECT, ("picture", 0), ("picture", 1)),
        swap(),
        two_concepts(),
        comparison(),
        evaluation({"reference_masks": ("picture", 1)}),
    )
    if can_run(e)
)
EXAMPLES = (*STABLE_DIFFUSION, *MINIATURE)


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
