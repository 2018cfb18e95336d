"""Importers: learned words in other programs' files, as Textual Inversion or Cross Init concepts.

Read are: diffusers (``{"<cat-toy>": tensor}``), A1111 (``string_to_param``), stock embeddings of
the host (one key a text encoder), and the official Cross Initialization ``learned_embeds.bin``
(``{"28017_v0": tensor, "28017_v1": tensor}``). CatVersion adapters: see `residuals.py`. Pickled
files are read by `pickles.py`, which unpickles nothing.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .bases import BASES, Base
from .concept import Concept, Method
from .errors import ConceptFileError, reading
from .pickles import read_pickle
from .placeholders import placeholder_from_name
from .residuals import is_official_adapter, official_adapter

_NUMBERED = re.compile(r"(.+)_v(\d{1,4})")
_ANONYMOUS = {"emb_params", "*", "clip_l", "clip_h", "clip_g"}


def read_pickled_embedding(path: Path, name: str, header_only: bool = False) -> dict[str, Tensor]:
    """Tensors of a ``.pt`` or ``.bin`` embedding by key. Nothing in the file is ever run."""
    return _tensors_of(read_pickle(path, name, header_only), name)


def embedding_to_concept(tensors: Mapping[str, Tensor], name: str) -> Concept:
    """The concept in the tensors of a foreign embedding or an official CatVersion adapter.

    Of an embedding for several text encoders (SDXL: ``clip_l`` and ``clip_g``) the one that
    Stable Diffusion 1.x or 2.x has is taken, as the host does.
    """
    if is_official_adapter(tensors):
        return official_adapter(tensors, name)
    if base := _base_of_encoders(tensors):
        word = base.join(tensors)
        return _concept(Method.TEXTUAL_INVERSION, base.key, word, name, name)
    numbered = {k: m for k in tensors if (m := _NUMBERED.fullmatch(k))}
    if tensors and len(numbered) == len(tensors):
        keys = sorted(numbered, key=lambda k: int(numbered[k][2]))
        word = _stack([tensors[key] for key in keys], name)
        method = Method.CROSS_INIT if len(keys) == 2 else Method.TEXTUAL_INVERSION
        return _concept(method, _base_of_width(word, name), word, numbered[keys[0]][1], name)
    if len(tensors) != 1:
        listed = ", ".join(sorted(tensors)[:6]) or "none"
        raise ConceptFileError(
            f"'{name}' is no embedding: expected the vectors of one learned word, found the "
            f"tensors {listed}{', ...' if len(tensors) > 6 else ''}."
        )
    ((key, word),) = tensors.items()
    token = name if key in _ANONYMOUS else key
    return _concept(Method.TEXTUAL_INVERSION, _base_of_width(word, name), word, token, name)


def _concept(method: Method, base: str, word: Tensor, token: str, name: str) -> Concept:
    if word.ndim not in (1, 2) or not word.is_floating_point():
        raise ConceptFileError(
            f"'{name}' is no embedding: expected vectors, got a tensor of shape "
            f"{tuple(word.shape)} and type {word.dtype}."
        )
    with reading(name):
        return Concept(
            method=method,
            base=base,
            text_width=word.shape[-1],
            placeholder=placeholder_from_name(token),
            words={"": word},
            training={"imported_from": Path(name).name},
        )


def _stack(vectors: list[Tensor], name: str) -> Tensor:
    shapes = {tuple(v.shape) for v in vectors}
    if len(shapes) != 1 or vectors[0].ndim != 1:
        raise ConceptFileError(
            f"'{name}' holds tensors of the shapes {sorted(shapes)}; expected vectors of one width "
            "under names such as cat_v0, cat_v1."
        )
    return torch.stack(vectors)


def _base_of_encoders(tensors: Mapping[str, Tensor]) -> Base | None:
    """The base all of whose text encoders have vectors here; of several that with most encoders."""
    fitting = [base for base in BASES.values() if set(base.encoder_names) <= set(tensors)]
    return max(fitting, key=lambda base: len(base.encoders), default=None)


def _base_of_width(word: Tensor, name: str) -> str:
    width = word.shape[-1] if word.ndim else 0
    for base in BASES.values():
        if base.text_width == width:
            return base.key
    known = ", ".join(f"{b.text_width} ({b.title})" for b in BASES.values())
    raise ConceptFileError(f"'{name}' has vectors of width {width}. Supported widths: {known}.")


def _tensors_of(content: Any, name: str) -> dict[str, Tensor]:
    if isinstance(content, dict) and "string_to_param" in content:
        content = content["string_to_param"]
        if isinstance(content, dict) and "_parameters" in content:  # of a ParameterDict
            content = content["_parameters"]
    if isinstance(content, dict):
        tensors = {k: v for k, v in content.items() if isinstance(k, str) and torch.is_tensor(v)}
        if tensors:
            return tensors
    raise ConceptFileError(
        f"'{name}' is no embedding: expected a dictionary of tensors, got "
        f"{type(content).__name__} without any."
    )
