"""What the server is asked to do: the workflow that learns a subject, and the one that draws and
scores it. Methods are the server's own nodes, read from their schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..client import Workflow
from ..workflows import (
    ObjectInfo,
    inputs_of,
    is_widget,
    node,
    node_list,
    preset_fields,
    widgets,
)
from .data import SLOT, Subject

UNTOUCHED = "Untouched"
PLACEHOLDER = "<subject>"
TRAIN, SAVE, SHOW, SCORES_NODE = "train", "save", "show", "scores"
SECOND_SCORES = "second scores"  # the same by another CLIP

_PREFIXES = ("PersonalizeTrain", "PersonalizeEncode")
_OPTIONS = {
    "clip_vision": "--clip-vision",
    "elite": "--elite-global and --elite-local",
    "masks": "masks beside the pictures (00_mask.png), or --sam",
}


class JobError(ValueError):
    """A job that this server or these settings cannot do; the message says what is missing."""


@dataclass(frozen=True)
class Settings:
    """What is the same in all jobs. Names are those that the server lists; empty: not used.

    overrides: inputs of a method's node that differ from their default, by method ("" for all)
    references: how many pictures a method learns from, 0 for all; all are scored against
    """

    checkpoint: str
    clip: str
    dino: str = ""
    identity: str = ""
    second_clip: str = ""
    clip_vision: str = ""
    clip_vision_loader: str = "CLIPVisionLoader"
    elite_global: str = ""
    elite_local: str = "in the same file"
    sam: str = ""
    resolution: int = 512
    references: int = 0
    images: int = 4
    sampler: str = "ddim"
    scheduler: str = "normal"
    sampling_steps: int = 50
    guidance: float = 7.5
    negative: str = ""
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of_method(self, name: str) -> dict[str, Any]:
        return {**self.overrides.get("", {}), **self.overrides.get(name, {})}


@dataclass(frozen=True)
class MethodNode:
    """A node that makes a concept from pictures. node "": the model as it is, the baseline.

    words: how a prompt names the subject, from the node's own preview prompt
    """

    name: str
    node: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict, repr=False)
    words: str = SLOT

    def prompt(self, template: str, class_word: str) -> str:
        words = self.words.replace(SLOT, PLACEHOLDER).replace("{class}", class_word)
        return template.replace(SLOT, words if self.node else class_word)


def find_methods(info: ObjectInfo) -> dict[str, MethodNode]:
    """Every node of the pack that makes a CONCEPT of pictures, by its name; the baseline first."""
    methods = {UNTOUCHED: MethodNode(UNTOUCHED)}
    for kind, schema in info.items():
        prefix = next((p for p in _PREFIXES if kind.startswith(p)), None)
        if prefix is None or "CONCEPT" not in schema["output"]:
            continue
        name = kind.removeprefix(prefix)
        defaults = {key: default for key, default, _ in widgets(schema)}
        follows = "{class}" in str(defaults.get("preview_prompt", ""))
        words = f"{SLOT} {{class}}" if follows else SLOT
        methods[name] = MethodNode(name, kind, schema, words)
    return methods


def learn_workflow(
    method: MethodNode, subject: Subject, *, files: Sequence[str], masks: Sequence[str],
    settings: Settings, seed: int, filename: str,
) -> Workflow:  # fmt: skip
    """Learn a subject from uploaded pictures and save the concept under output/concepts."""
    count = settings.references or len(files)
    nodes: Workflow = {"base": node("CheckpointLoaderSimple", ckpt_name=settings.checkpoint)}
    _add_pictures(nodes, files[:count], masks[:count], settings)
    sources = {"model": ["base", 0], "clip": ["base", 1], "vae": ["base", 2]}
    sources |= {"images": ["pictures", 0], "image": ["square", 0]}
    if "masks" in nodes:
        sources |= {"masks": ["masks", 0], "mask": ["square mask", 0]}
    if settings.clip_vision:
        loader = settings.clip_vision_loader
        nodes["vision"] = node(loader, clip_name=settings.clip_vision)
        sources["clip_vision"] = ["vision", 0]
    if settings.elite_global:
        names = {"global_mapper": settings.elite_global, "local_mapper": settings.elite_local}
        nodes["elite"] = node("PersonalizeLoadELITE", **names)
        sources["elite"] = ["elite", 0]
    nodes[TRAIN] = {
        "class_type": method.node,
        "inputs": _inputs(method, subject, sources=sources, settings=settings, seed=seed),
    }
    nodes[SAVE] = node(
        "PersonalizeSaveConcept",
        concept=[TRAIN, 0],
        filename=filename,
        also_as_embedding=False,
    )
    return _needed(nodes, SAVE)


def draw_workflow(
    concept: str, prompt: str, subject: Subject, *, files: Sequence[str], masks: Sequence[str],
    settings: Settings, seed: int,
) -> Workflow:  # fmt: skip
    """Draw a prompt with a saved concept ("" for the model as it is), and score the pictures."""
    side = settings.resolution
    nodes: Workflow = {"base": node("CheckpointLoaderSimple", ckpt_name=settings.checkpoint)}
    model, clip = ["base", 0], ["base", 1]
    if concept:
        nodes["concept"] = node("PersonalizeLoadConcept", concept_name=concept)
        nodes["apply"] = node(
            "PersonalizeApplyConcept", model=model, clip=clip, concept=["concept", 0],
            strength=1.0, local_strength=0.8, start_percent=0.0, end_percent=1.0,
        )  # fmt: skip
        model, clip = ["apply", 0], ["apply", 1]
    nodes["positive"] = node("CLIPTextEncode", clip=clip, text=prompt)
    nodes["negative"] = node("CLIPTextEncode", clip=clip, text=settings.negative)
    nodes["latent"] = node("EmptyLatentImage", width=side, height=side, batch_size=settings.images)
    nodes["sample"] = node(
        "KSampler", model=model, positive=["positive", 0], negative=["negative", 0],
        latent_image=["latent", 0], seed=seed, steps=settings.sampling_steps,
        cfg=settings.guidance, sampler_name=settings.sampler, scheduler=settings.scheduler,
        denoise=1.0,
    )  # fmt: skip
    nodes["decode"] = node("VAEDecode", samples=["sample", 0], vae=["base", 2])
    nodes[SHOW] = node("PreviewImage", images=["decode", 0])
    _add_pictures(nodes, files, masks, settings)
    nodes[SCORES_NODE] = node(
        "PersonalizeEvaluate", generated=["decode", 0], references=["pictures", 0],
        prompt=prompt, class_word=subject.class_word, clip_folder=settings.clip,
        dino_folder=settings.dino or "none", identity_folder=settings.identity or "none",
        filename="", file_format="csv", placeholder="",
    )  # fmt: skip
    if "masks" in nodes:
        nodes[SCORES_NODE]["inputs"]["reference_masks"] = ["masks", 0]
    if settings.sam:
        nodes["drawn masks"] = _segment(["decode", 0])
        nodes[SCORES_NODE]["inputs"]["generated_masks"] = ["drawn masks", 0]
    if not settings.second_clip:
        return _needed(nodes, SHOW, SCORES_NODE)
    inputs = nodes[SCORES_NODE]["inputs"]
    second = {"clip_folder": settings.second_clip, "dino_folder": "none", "identity_folder": "none"}
    nodes[SECOND_SCORES] = node("PersonalizeEvaluate", **{**inputs, **second})
    return _needed(nodes, SHOW, SCORES_NODE, SECOND_SCORES)


def _inputs(
    method: MethodNode,
    subject: Subject,
    *,
    sources: Mapping[str, Any],
    settings: Settings,
    seed: int,
) -> dict[str, Any]:
    """All inputs of a method's node: connections, what the job decides, overrides, defaults."""
    values = {name: default for name, default, _ in widgets(method.schema)}
    own = settings.of_method(method.name)
    if own.keys() & preset_fields(method.schema):  # as on the page: set by hand, it is no preset
        values["preset"] = "custom"
    values |= {
        "placeholder": PLACEHOLDER, "class_word": subject.class_word,
        "init_word": subject.class_word.split()[-1], "train_seed": seed,
        "resolution": settings.resolution, "preview_every": 0,
        "init_from": "names" if subject.person else "class word",
        "pose_word": "pose" if subject.live else "view",
    } | own  # fmt: skip
    wanted = list(inputs_of(method.schema))
    optional = set(method.schema["input_order"].get("optional", []))
    unknown = set(settings.overrides.get(method.name, {})) - {name for name, _, _ in wanted}
    if unknown:
        raise JobError(f"{method.name} has no input {', '.join(sorted(unknown))}.")
    inputs = {name: values[name] for name, kind, more in wanted if is_widget(kind, more)}
    for name, kind, more in wanted:
        if is_widget(kind, more) or (name in optional and name not in sources):
            continue
        if name not in sources:
            raise JobError(f"{method.name} needs {_OPTIONS.get(name, name)}.")
        inputs[name] = sources[name]
    return inputs


def _add_pictures(
    nodes: Workflow, files: Sequence[str], masks: Sequence[str], settings: Settings
) -> None:
    """`pictures` and, if there are any, `masks`: lists, so that sizes may differ."""
    for number, file in enumerate(files):
        nodes[f"picture{number}"] = node("LoadImage", image=file)
    nodes["pictures"] = node_list([[f"picture{n}", 0] for n in range(len(files))])
    nodes["square"] = _square("picture0", settings)
    if settings.sam:
        nodes["sam"] = node("PersonalizeLoadSAM", sam_name=settings.sam)
    if masks or settings.sam:
        for number in range(len(files)):
            nodes[f"mask{number}"] = (
                node("LoadImageMask", image=masks[number], channel="red")
                if masks
                else _segment([f"picture{number}", 0])
            )
        nodes["masks"] = node_list([[f"mask{n}", 0] for n in range(len(files))])
        nodes["mask picture"] = node("MaskToImage", mask=["mask0", 0])
        nodes["square mask picture"] = _square("mask picture", settings)
        nodes["square mask"] = node("ImageToMask", image=["square mask picture", 0], channel="red")


def _square(image: str, settings: Settings) -> dict[str, Any]:
    """The first picture as methods want it that learn from one: encoders squeeze what is not."""
    side = settings.resolution
    size = {"width": side, "height": side, "crop": "center", "upscale_method": "lanczos"}
    return node("ImageScale", image=[image, 0], **size)


def _segment(image: list[Any]) -> dict[str, Any]:
    return node("PersonalizeSegmentSubject", sam_model=["sam", 0], image=image)


def _needed(nodes: Workflow, *ends: str) -> Workflow:
    """The nodes that the ends depend on."""
    found, open_ends = set(), list(ends)
    while open_ends:
        key = open_ends.pop()
        if key in found:
            continue
        found.add(key)
        links = [v for v in nodes[key]["inputs"].values() if isinstance(v, list)]
        open_ends += [link[0] for link in links]
    return {key: one for key, one in nodes.items() if key in found}
