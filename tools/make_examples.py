"""Write example_workflows/ anew, with every node's inputs as a running server describes them.

    python tools/run.py make_examples

Run it after an input was added to a node; texts, settings and places are below.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .comfy_server import ComfyServer, make_base_directory
from .demo import PACKS
from .examples import Example, Group, Node, Source
from .get_host import ROOT, get_host
from .miniature_examples import can_run, on_miniature
from .workflows import ObjectInfo, SavedWorkflow, inputs_of, is_widget, widgets

FOLDER = ROOT / "example_workflows"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
VISION = "clip-vit-large-patch14.safetensors"
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
            (400, 620),
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
            (410, 730),
            (400, 110),
            {"concept": ("train", 0)},
            {"filename": learning.file},
        ),
        "losses": Node("LossGraphNode", (410, 890), (400, 300), {"loss": ("train", 1)}),
        **drawing(("train", 0), use_text, learning.prompt, learning.file),
    }
    groups = (
        Group("1. Model and picture", (-20, -20, 370, 640), COLOURS["model"]),
        Group("2. Learn", (390, -20, 440, 1240), COLOURS["learn"]),
        Group("3. Use it in any prompt", (870, -20, 830, 890), COLOURS["use"]),
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
    sampling = {
        "seed": 1,
        "steps": 30,
        "cfg": 7.0,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
    }
    return {
        "use_note": note("3. Use it in prompts", text, (890, -290), (400, 270)),
        "apply": Node(
            "PersonalizeApplyConcept",
            (890, 60),
            (400, 180),
            {"model": ("base", 0), "clip": ("base", 1), "concept": concept},
            dict(apply),
        ),
        "positive": Node(
            "CLIPTextEncode", (890, 290), (400, 130), {"clip": ("apply", 1)}, {"text": prompt}
        ),
        "negative": Node(
            "CLIPTextEncode",
            (890, 470),
            (400, 110),
            {"clip": ("apply", 1)},
            {"text": "blurry, deformed, watermark"},
        ),
        **(start or {"latent": Node("EmptyLatentImage", (890, 630), (400, 110))}),
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
            {**sampling, **sample},
        ),
        "decode": Node(
            "VAEDecode", (1350, 380), (330, 50), {"samples": ("sample", 0), "vae": ("base", 2)}
        ),
        "picture_saved": Node(
            "SaveImage",
            (1350, 480),
            (330, 360),
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
        "vision": Node("CLIPVisionLoader", (0, 230), (330, 60), widgets={"clip_name": VISION}),
        "elite": Node(
            "PersonalizeLoadELITE",
            (0, 340),
            (330, 90),
            widgets={"global_mapper": "global_mapper.pt", "local_mapper": "local_mapper.pt"},
        ),
        "picture": Node("LoadImage", (0, 480), (330, 360), widgets={"image": "example.png"}),
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
            (400, 170),
            {"concept": ("encode", 0)},
            {"filename": "my-dog-elite"},
        ),
        **third,
    }
    groups = (
        Group("1. Model, encoder and picture", (-20, -20, 370, 880), COLOURS["model"]),
        Group("2. Encode", (390, -20, 440, 520), COLOURS["learn"]),
        Group("3. Use it in any prompt", (870, -20, 830, 1020), COLOURS["use"]),
    )
    return Example(name, nodes, groups)


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

FROM_PICTURE = {
    "scaled": Node(
        "ImageScale",
        (890, 630),
        (400, 140),
        {"image": ("picture", 0)},
        {"upscale_method": "lanczos", "width": 512, "height": 512, "crop": "center"},
    ),
    "latent": Node(
        "VAEEncode", (890, 820), (400, 50), {"pixels": ("scaled", 0), "vae": ("base", 2)}
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
STABLE_DIFFUSION = (learn_and_use(FACE), learn_and_use(THING), GENERATE, EDIT)
EXAMPLES = (*STABLE_DIFFUSION, *(on_miniature(e) for e in STABLE_DIFFUSION if can_run(e)))


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
        for slot, (name, kind) in enumerate(_sockets(info.get(node.kind))):
            if name in node.links:
                source, output = node.links[name]
                links.append([len(links) + 1, ids[source], output, ids[key], slot, kind])
    return links


def _sockets(schema: Schema | None) -> list[tuple[str, Any]]:
    if schema is None:
        return []
    return [(name, kind) for name, kind, _ in inputs_of(schema) if not is_widget(kind)]


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
            for slot, (name, kind) in enumerate(_sockets(schema))
        ],
        "outputs": [
            {
                "name": name,
                "type": kind,
                "links": [n for n, *at in links if at[:2] == [number, out]],
            }
            for out, (name, kind) in enumerate(outputs)
        ],
        "properties": {"Node name for S&R": node.kind, "cnr_id": pack},
        "widgets_values": _values(node, schema),
    }
    if node.title:
        saved |= {"title": node.title, "color": "#432", "bgcolor": "#653"}
    return saved


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
