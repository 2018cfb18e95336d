"""Workflows of the GPU bench, filled in from the nodes' own schemas: a new method needs no line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...cli.client import Workflow
from ...cli.workflows import ObjectInfo, inputs_of, is_widget, node, widgets
from .models import CHECKPOINT, SAM, VISION, Size

TRAINER, ELITE = "PersonalizeTrain", "PersonalizeTrainELITE"
PLACEHOLDER = "<it>"
PROMPT = f"a photo of {PLACEHOLDER}"
STEPS = 4  # of a picture
SOURCES = {
    "MODEL": ["base", 0],
    "CLIP": ["base", 1],
    "VAE": ["base", 2],
    "CLIP_VISION": ["vision", 0],
    "IMAGE": ["pictures", 0],
    "MASK": ["pictures", 1],
}


def trainers(info: ObjectInfo) -> list[str]:
    """Ids of the Train nodes; the encoder's comes last."""
    return sorted(
        (name for name in info if name.startswith(TRAINER)), key=lambda n: (n == ELITE, n)
    )


def models(size: Size, nonce: int) -> Workflow:
    """What every workflow loads."""
    pictures = node("BenchPictures", count=2, size=size.pixels, seed=0, nonce=nonce)
    return {
        "base": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "vision": node("BenchVision", name=VISION),
        "pictures": pictures,
    }


def training(
    info: ObjectInfo, trainer: str, size: Size, nonce: int, changes: Mapping[str, Any]
) -> Workflow:
    """Train, save the result, and draw with it. Nodes: `train`, `save`, `draw`."""
    given = {"placeholder": PLACEHOLDER, "batch_size": 1, "resolution": size.pixels,
             "preview_every": 0, "save_every": 0, "resume": False, **changes}  # fmt: skip
    train = node(trainer, **filled(info[trainer], given))
    workflow = {**models(size, nonce), "train": train}
    if trainer != ELITE:
        return workflow | saved_concept(["train", 0]) | drawn(size, nonce, ["train", 0])
    encoded = {"elite": ["train", 0], "placeholder": PLACEHOLDER}
    encode = node("PersonalizeEncodeELITE", **filled(info["PersonalizeEncodeELITE"], encoded))
    save = node("PersonalizeSaveELITE", elite=["train", 0], filename="bench")
    return workflow | {"encode": encode, "save": save} | drawn(size, nonce, ["encode", 0])


def local_stage(info: ObjectInfo, size: Size, nonce: int, changes: Mapping[str, Any]) -> Workflow:
    """ELITE's second stage, on top of a first one of a single step."""
    workflow = training(info, ELITE, size, nonce, {**changes, "stage": "local"})
    first = {**workflow["train"]["inputs"], "stage": "global", "steps": 1}
    workflow["first"] = node(ELITE, **first)
    workflow["train"]["inputs"]["elite"] = ["first", 0]
    return workflow


def stock(size: Size, nonce: int) -> Workflow:
    """What the user's models draw without the pack. Node: `draw`."""
    return models(size, nonce) | drawn(size, nonce, None)


def segmented(info: ObjectInfo, size: Size, nonce: int) -> Workflow:
    """A subject cut out with Segment Anything. Node: `draw`."""
    given = {"sam_model": ["sam", 0], "image": ["pictures", 0]}
    segment = "PersonalizeSegmentSubject"
    return {
        "pictures": models(size, nonce)["pictures"],
        "sam": node("PersonalizeLoadSAM", sam_name=SAM),
        "segment": node(segment, **filled(info[segment], given)),
        "draw": node("BenchMask", mask=["segment", 0]),
    }


def saved_concept(concept: list[Any]) -> Workflow:
    inputs = {"concept": concept, "filename": "bench", "also_as_embedding": False}
    return {"save": node("PersonalizeSaveConcept", **inputs)}


def drawn(size: Size, nonce: int, concept: list[Any] | None) -> Workflow:
    sockets: dict[str, Any] = {name: SOURCES[name.upper()] for name in ("model", "clip", "vae")}
    more: Workflow = {}
    if concept is not None:
        strengths = {"strength": 1.0, "local_strength": 0.8}
        times = {"start_percent": 0.0, "end_percent": 1.0}
        used = {"model": sockets["model"], "clip": sockets["clip"], "concept": concept}
        more["apply"] = node("PersonalizeApplyConcept", **used, **strengths, **times)
        sockets |= {"model": ["apply", 0], "clip": ["apply", 1]}
    prompt = PROMPT if concept is not None else "a photo of a dog"
    settings = {"prompt": prompt, "steps": STEPS, "size": size.pixels, "nonce": nonce}
    return {**more, "draw": node("BenchDraw", **sockets, **settings)}


def filled(schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of a node: what is given of those that it has, else defaults, and all its sockets."""
    required = schema["input"].get("required", {})
    inputs = {name: default for name, default, _ in widgets(schema) if name in required}
    for name, kind, options in inputs_of(schema):
        if name in given:
            inputs[name] = given[name]
        elif not is_widget(kind, options) and kind in SOURCES:
            inputs[name] = SOURCES[kind]
    return inputs
