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
            {**SAMPLING, **sample},
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
        "vision": Node("CLIPVisionLoader", (350, 60), (320, 60), widgets={"clip_name": VISION}),
        **pictures,
        "mask_note": note("2. Masks", DETEX_MASK_NOTE, (740, -290), (330, 250)),
        "learn_note": note("3. Learn", DETEX_LEARN_NOTE, (1150, -330), (400, 290)),
        "train": Node(
            "PersonalizeTrainDETEX",
            (1150, 60),
            (400, 780),
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
            (1150, 890),
            (400, 170),
            {"concept": ("train", 0)},
            {"filename": DETEX_FILE},
        ),
        "losses": Node("LossGraphNode", (1150, 1110), (400, 300), {"loss": ("train", 1)}),
        **{key: _shifted(node, 740) for key, node in use.items()},
    }
    nodes["use_note"] = replace(nodes["use_note"], title="4. Use it in any prompt")
    groups = (
        Group("1. Models and pictures", (-20, -20, 710, 1060), COLOURS["model"]),
        Group("2. Masks", (720, -20, 370, 1000), COLOURS["model"]),
        Group("3. Learn", (1130, -20, 440, 1450), COLOURS["learn"]),
        Group("4. Use it in any prompt", (1610, -20, 830, 890), COLOURS["use"]),
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
            (360, 170),
            widgets={"concept_name": f"{DETEX_FILE}.safetensors"},
        ),
        "apply": Node(
            "PersonalizeApplyConcept",
            (0, 450),
            (360, 240),
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
        "latent": Node("EmptyLatentImage", (440, 640), (400, 110)),
        "draw_note": note("3. Pictures", SWAP_DRAW_NOTE, (920, -290), (720, 270)),
    }
    for n, (key, prompt) in enumerate(prompts.items()):
        nodes |= _swap_drawn(key, prompt, 60 + 210 * n, 920 + 390 * n)
    groups = (
        Group("1. Model and concept", (-20, -20, 400, 740), COLOURS["model"]),
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
            "VAEDecode", (left, 380), (330, 50),
            {"samples": (f"sample_{key}", 0), "vae": ("base", 2)},
        ),
        f"saved_{key}": Node(
            "SaveImage", (left, 480), (330, 320), {"images": (f"decode_{key}", 0)},
            {"filename_prefix": f"personalize/{DETEX_FILE}"},
        ),
    }  # fmt: skip


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
FOUR_PICTURES = {
    "sam": Node("PersonalizeLoadSAM", (350, 170), (320, 60), widgets={"sam_name": SAM}),
    **{
        f"picture{n + 1}": Node(
            "LoadImage", (n % 2 * 350, 290 + n // 2 * 380), (320, 330),
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
ONE_SUBJECT = {"picture": Node("LoadImage", (0, 290), (320, 330), widgets={"image": "example.png"})}
STABLE_DIFFUSION = (
    learn_and_use(FACE),
    learn_and_use(THING),
    GENERATE,
    EDIT,
    learn_apart(FOUR_PICTURES, ("list", 0), ("segment", 0)),
    swap(),
)
MINIATURE = tuple(
    on_miniature(e)
    for e in (
        *STABLE_DIFFUSION[:4],
        learn_apart(ONE_SUBJECT, ("picture", 0), ("picture", 1)),
        swap(),
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
