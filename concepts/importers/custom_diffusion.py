"""Custom Diffusion's own files: a word, and weights of keys and values, as three programs write.

- the authors' first program, ``delta.ckpt``: ``{"state_dict": {"embed": (n, d), "model
  .diffusion_model.<path>.weight": ...}}``
- the authors' program for diffusers, ``delta.bin``: ``{"unet": {...}, "modifier_token": {...}}``,
  for Stable Diffusion XL with a list of two vectors a word, one for each text encoder
- diffusers' own example: ``pytorch_custom_diffusion_weights.bin`` with the weights, and a file for
  each word, ``<new1>.bin``, beside it

They hold whole weights, or (the authors' ``compressed_delta``) two factors of what these changed
by. Several words that were trained together share the weights: they become one concept, the first
word its placeholder and the others attributes.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bases import BASES, Base
from ..concept import Concept
from ..differences import factor_tensors, weight_differences, whole_tensors, whole_weights
from ..errors import ConceptFileError, reading
from ..foreign import ForeignFile, plain_tensors
from ..methods import CUSTOM_DIFFUSION
from ..placeholders import placeholder_from_name
from ..unet_paths import host_block
from .words import is_word, word_rows

WEIGHTS_STEM = "pytorch_custom_diffusion_weights"
_LAYER = re.compile(
    r"(?:model\.diffusion_model\.)?(?P<block>.+)\.attn2\."
    r"(?:processor\.)?(?P<layer>to_\w+?|norm\w*)(?:_custom_diffusion)?(?:\.0)?\.(?:weight|bias)"
)
_TRAINED = ("to_k", "to_v")
_WORD_FILE = re.compile(r"<.+>|\W*_?new\d+_?\W*")  # Windows and browsers replace the brackets


def custom_diffusion(file: ForeignFile) -> dict[str, Concept]:
    """The concept in a file of Custom Diffusion by each of its words."""
    content = file.content if isinstance(file.content, Mapping) else {}
    if isinstance(content.get("unet"), Mapping):
        if "text_encoder" in content:
            raise _more_than_keys_and_values(file, "a trained text encoder")
        weights, words = content["unet"], content.get("modifier_token") or {}
    elif _is_delta(content.get("state_dict")):
        weights = {k: w for k, w in content["state_dict"].items() if k != "embed"}
        embed = content["state_dict"].get("embed")
        words = {} if embed is None else {f"<new{n + 1}>": row for n, row in enumerate(embed)}
    elif any("_custom_diffusion." in str(key) for key in content):
        weights, words = content, _words_beside(file)
    else:
        return {}
    return _concepts(file, _by_path(file, weights), words)


def _is_delta(state: Any) -> bool:
    """A checkpoint has a state_dict too; a delta's holds cross attention and nothing else."""
    if not isinstance(state, Mapping) or not state:
        return False
    return all(key == "embed" or ".attn2." in str(key) for key in state)


def _words_beside(file: ForeignFile) -> dict[str, Tensor]:
    """The words that diffusers writes beside the weights; with a token, wherever that one is."""
    wanted = placeholder_from_name(file.token) if file.token else ""
    found: dict[str, Tensor] = {}
    for other in file.beside(lambda path: bool(wanted or _WORD_FILE.fullmatch(path.stem))):
        words = {key: tensor for key, tensor in other.tensors.items() if is_word(tensor)}
        token = next(iter(words), "")
        by_name = other.path is not None and _WORD_FILE.fullmatch(other.path.stem)
        if len(words) == 1 and token.startswith("<") and (by_name or token == wanted):
            found |= words
    return found


def _by_path(file: ForeignFile, weights: Mapping[Any, Any]) -> dict[str, Any]:
    """Weights by the host's path of their layer."""
    found = {}
    for key, weight in weights.items():
        match = _LAYER.fullmatch(str(key))
        if match is None:
            raise ConceptFileError(
                f"'{file.name}' is no Custom Diffusion concept: expected weights of cross "
                f"attention, found {key}. Take the file that its program has written."
            )
        if match["layer"] not in _TRAINED:
            raise _more_than_keys_and_values(file, f"trained {match['layer']} layers")
        if not torch.is_tensor(weight) and not {"u", "v"} <= plain_tensors(weight).keys():
            raise ConceptFileError(
                f"'{file.name}' holds {type(weight).__name__} for {key}. Expected a weight, or its "
                "two factors u and v. The file is damaged: copy or download it again."
            )
        block = host_block(match["block"]) or match["block"]
        found[f"{block}.attn2.{match['layer']}"] = weight
    return found


def _more_than_keys_and_values(file: ForeignFile, found: str) -> ConceptFileError:
    return ConceptFileError(
        f"'{file.name}' holds {found}. Expected the keys and values of the cross attention and no "
        "more, the method's default. Train it again with freeze_model crossattn_kv."
    )


def _concepts(
    file: ForeignFile, weights: Mapping[str, Any], words: Mapping[str, Any]
) -> dict[str, Concept]:
    base = _base(file, weights)
    if not words:
        raise ConceptFileError(
            f"'{file.name}' is one half of a Custom Diffusion concept, the weights. Expected its "
            "word too: put the word's file, such as <new1>.bin, into the same folder; if it has "
            "another name, write the word, such as <new1>, into token."
        )
    if not weights or base is None:
        raise ConceptFileError(
            f"'{file.name}' is one half of a Custom Diffusion concept, the word. Expected weights "
            "too: take the file that its program has written at the end of the training."
        )
    rows = {token: _rows(file, base, word) for token, word in words.items()}
    return {token: _concept(file, base, token, rows, weights) for token in rows}


def _rows(file: ForeignFile, base: Base, word: Any) -> Tensor:
    """A word's vectors, (n, d), of all text encoders side by side."""
    parts = list(word) if isinstance(word, list | tuple) else [word]
    if not all(map(torch.is_tensor, parts)) or len(parts) != len(base.encoders):
        raise ConceptFileError(
            f"'{file.name}' holds a word of {len(parts)} parts. Expected one for each text encoder "
            f"of {base.title}, {' and '.join(base.encoder_names)}. Take the file that its program "
            "has written."
        )
    rows = [word_rows(file, part) for part in parts]
    with reading(file.name):
        return base.join(dict(zip(base.encoder_names, rows, strict=True)))


def _base(file: ForeignFile, weights: Mapping[str, Any]) -> Base | None:
    widths = {_width(weight) for weight in weights.values()}
    for base in BASES.values():
        if widths == {base.context_width}:
            return base
    if not widths:
        return None
    known = ", ".join(f"{base.context_width} ({base.title})" for base in BASES.values())
    raise ConceptFileError(
        f"'{file.name}' holds weights for conditionings of the widths {sorted(widths)}. Expected "
        f"one of {known}. It was made for another base model: take one for yours."
    )


def _width(weight: Any) -> int:
    """How wide a conditioning the layer reads; 0 for what is no weight."""
    last = weight if torch.is_tensor(weight) else weight["v"]
    return last.shape[-1] if last.ndim == 2 else 0


def _concept(
    file: ForeignFile,
    base: Base,
    token: str,
    words: Mapping[str, Tensor],
    weights: Mapping[str, Any],
) -> Concept:
    whole = {path: weight for path, weight in weights.items() if torch.is_tensor(weight)}
    tensors = whole_tensors(whole)
    for path, weight in weights.items():
        if path not in whole:
            factors = plain_tensors(weight)
            tensors |= factor_tensors(path, factors["u"], factors["v"])
    rest = [other for other in words if other != token]
    with reading(file.name):
        concept = Concept(
            method=CUSTOM_DIFFUSION,
            base=base.key,
            text_width=base.text_width,
            placeholder=placeholder_from_name(token),
            words={"": words[token]}
            | {_attribute(other, n): words[other] for n, other in enumerate(rest)},
            tensors=tensors,
            training={"imported_from": Path(file.name).name},
        )
        weight_differences(concept)
        whole_weights(concept)
    return concept


def _attribute(token: str, number: int) -> str:
    """What a word is written as behind another one's colon: ``<new2>`` -> ``new2``."""
    name = token.strip("<>").lower()
    return name if re.fullmatch(r"[a-z]+\d*", name) else f"word{number + 2}"
