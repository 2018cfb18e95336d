"""The templates again, set for the miniature: with its demo pack linked, they run as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...miniature.clip_folder import write_clip
from ...miniature.files import CHECKPOINT, VISION, WEIGHTS
from ...studies.miniature_models import GUIDANCE, SIZE, STEPS
from ...studies.recipes import RECIPES
from ..demo import QUICK, prepare_base
from .example import Column, Draft, Node, Source
from .templates import STYLES, TWO_FACES

PREFIX = "miniature-"  # of the files that they save
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
    "a photo of <me> on the beach": "a photo of a face of <me> on the beach",
    TWO_FACES: "a photo of a face of <me> person and a face of <you> person on the beach",
    STYLES: "a photo of a face of {}\na drawing of a face of {}\na portrait of {}\na photo of a "
    "face of {} at night",
    "a photo of <my-dog> on the beach": "a photo of <my-dog> dog on the beach",
    "a photo of <my-dog> wearing a red hat": "a photo of <my-dog> dog wearing a red hat",
    "a photo of a {}\na photo of a {} on the beach": "a photo of a face of {}\na photo of a face "
    "of {} on the beach",
}
"""Prompts in the few words that the miniature knows, for those that it does not; its small ELITE
encoder says the kind of thing less surely than the authors'."""

NOTE = """\
**This template needs nothing but this repository**: link its folder `miniature/comfy_pack` into \
`ComfyUI/custom_nodes`, and copy `miniature/weights/*.safetensors` into `models/checkpoints` \
(miniature) and `models/clip_vision` (miniature_vision).

*Miniature Subject* draws something that the model has never seen: change `number` for another."""

NEEDED = {
    "7 Two concepts in one picture": ("1 Learn my face", "2 Learn my pet"),
    "8 Compare concepts": ("1 Learn my face", "3 Learn from a folder"),
    "9 Score a concept": ("2 Learn my pet",),
}
"""Templates that draw with the files of others."""

SAVED_NOTE = """\
**Run {needed} of the miniature first**: this draws with what they saved, and with the same \
miniature Stable Diffusion.{more}"""
MORE = {
    "9 Score a concept": f"""

Its own CLIP scores. In the folder of this repository, this writes it:

`python -m miniature.clip_folder .../ComfyUI/models/clip_metrics/{SCORER}`""",
}

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
OTHER_KIND = {
    "CLIPVisionLoader": "MiniatureLoadVision",
    "LoadImage": "MiniatureSubject",
    "LoadImageTextDataSetFromFolder": "MiniatureSubject",
}


def on_miniature(draft: Draft) -> Draft:
    """The same nodes and connections, other models, pictures, sizes and prompts."""
    words = [_class_word(node) for node in draft.nodes.values()]
    subject = next((SUBJECTS[word] for word in words if word), None)
    stand_ins = {key: n.stands_in for key, n in draft.nodes.items() if n.stands_in}
    left_out = {key for key, node in draft.nodes.items() if node.stands_in or node.needs_models}

    def there(source: Source) -> Source | None:
        while source[0] in stand_ins:
            source = stand_ins[source[0]]
        return None if source[0] in left_out else source

    def small(key: str, node: Node) -> Node:
        links = {name: there(source) for name, source in node.links.items() if name != "captions"}
        kept = {name: source for name, source in links.items() if source}
        if node.kind == "PersonalizeEvaluate":
            kept["reference_masks"] = "picture", 1
        return replace(_set(node, subject, second=key == "picture2"), links=kept)

    def column(one: Column) -> Column:
        stacks = [{k: small(k, n) for k, n in s.items() if k not in left_out} for s in one.stacks]
        filled = [(s, w) for s, w in zip(stacks, one.widths, strict=True) if s]
        return replace(one, stacks=[s for s, _ in filled], widths=[w for _, w in filled])

    columns = [column(one) for one in draft.columns]
    columns[0] = replace(columns[0], note=_first_note(draft.name))
    return Draft(draft.name, [one for one in columns if one.stacks])


def _first_note(name: str) -> str:
    if name not in NEEDED:
        return NOTE
    needed = " and ".join(f"*{one}*" for one in NEEDED[name])
    return SAVED_NOTE.format(needed=needed, more=MORE.get(name, ""))


def _class_word(node: Node) -> str | None:
    return node.widgets.get("class_word") or node.widgets.get("init_word")


def _set(node: Node, subject: dict[str, Any] | None, second: bool) -> Node:
    """second: whether it loads the picture of another subject than the first"""
    changed = {**node.widgets, **SETTINGS.get(node.kind, {})}
    for name in ("filename", "concept_name"):  # its files are none of Stable Diffusion
        if name in changed:
            changed[name] = PREFIX + changed[name]
    if node.kind == "EmptyLatentImage":
        changed["width"] = node.widgets.get("width", 512) * SIZE // 512
    if OTHER_KIND.get(node.kind) == "MiniatureSubject" and subject:
        changed = {**subject, "pictures": 4} if "folder" in changed else dict(subject)
        changed["number"] += second
    for name in ("text", "prompts"):
        if name in changed:
            changed[name] = WORDS.get(changed[name], changed[name])
    if node.kind in TRAINING and "preset" in changed:
        changed["preset"] = "custom"  # the recipe's own steps and rate
    return replace(node, kind=OTHER_KIND.get(node.kind, node.kind), widgets=changed, title="")


def base_for_examples(folder: Path) -> Path:
    """The demo's base directory, with the miniature's CLIP to score with, too."""
    base = prepare_base(base=folder)
    write_clip(base / "models" / "clip_metrics" / SCORER)
    return base


def can_run(draft: Draft) -> bool:
    """Are its files beside the miniature's weights? An ELITE encoder may not be."""
    kinds = {node.kind for node in draft.nodes.values()}
    return "PersonalizeLoadELITE" not in kinds or (WEIGHTS / ENCODER).is_file()
