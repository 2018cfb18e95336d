"""Files that hold no concept, called what they are."""

from collections.abc import Mapping
from typing import Any

import torch

from ..concept import Concept
from ..errors import ConceptFileError
from ..foreign import ForeignFile

_KINDS = {
    ("lora_unet_", "lora_te", "lora_up", "lora_A", "lora_down"): (
        "a LoRA",
        "load it with Load LoRA",
    ),
    ("model.diffusion_model.", "cond_stage_model.", "first_stage_model.", "conditioner."): (
        "a checkpoint",
        "load it with Load Checkpoint",
    ),
    ("control_model.", "controlnet_", "control_add_embedding"): (
        "a ControlNet",
        "load it with Load ControlNet Model",
    ),
    ("mapping_0.", "mapping_patch_0.", "global.mapping_"): (
        "a part of an ELITE encoder",
        "put it into models/elite and load it with Load ELITE Encoder",
    ),
    ("text_model.", "text_projection"): ("a text encoder", "load it with Load CLIP"),
    ("decoder.conv_in", "decoder.up"): ("a VAE", "load it with Load VAE"),
    (".weight", ".bias"): ("a network", "load it with the node that is made for it"),
}
"""Parts of keys, and what a file with them is; the first that fits."""

_SHOWN = 6  # keys of a file that a message lists
_EXPECTED = "expected the vectors of a learned word"


def refuse_strangers(file: ForeignFile) -> dict[str, Concept]:
    """Raise for the weights of a network, which other nodes load."""
    keys = file.content if isinstance(file.content, Mapping) else {}
    if isinstance(keys.get("state_dict"), Mapping):
        keys = keys["state_dict"]
    for marks, (kind, what_to_do) in _KINDS.items():
        if any(mark in str(key) for mark in marks for key in keys):
            raise ConceptFileError(
                f"'{file.name}' is {kind} and no embedding: {_EXPECTED}, found {_listed(keys)}. To "
                f"use it, {what_to_do}."
            )
    return {}


def no_concept(file: ForeignFile) -> ConceptFileError:
    """Says what a file holds that no importer knows, what was expected, and what to do."""
    if torch.is_tensor(file.content):
        return ConceptFileError(
            f"'{file.name}' is no embedding: {_EXPECTED} under its name, got a bare tensor of "
            f"shape {tuple(file.content.shape)}, as aesthetic gradients are, which act on a whole "
            "prompt and not as a word. Take an embedding (textual inversion) instead."
        )
    known = isinstance(file.content, Mapping) and file.content
    found = _listed(file.content) if known else f"a {type(file.content).__name__} without tensors"
    return ConceptFileError(
        f"'{file.name}' is no embedding: {_EXPECTED}, found {found}. Take a file that this pack or "
        "a program for textual inversion has written."
    )


def _listed(content: Mapping[Any, Any]) -> str:
    shown = [_described(str(key), content[key]) for key in sorted(content, key=str)[:_SHOWN]]
    return f"{', '.join(shown)}{', ...' if len(content) > _SHOWN else ''}"


def _described(key: str, value: Any) -> str:
    if not torch.is_tensor(value):
        return f"{key} ({type(value).__name__})"
    return f"{key} ({str(value.dtype).removeprefix('torch.')} {list(value.shape)})"
