"""Residual keys and values of a CatVersion concept, as its tensors.

A concept holds ``residual.<layer>.key`` and ``.value`` (n, d) for each changed layer of the text
encoder, and ``logit_bias``, which is added to the logits of the residual columns. For a base with
several text encoders the layer has its encoder's name before it: ``residual.clip_g.30.key``.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .bases import BASES, Base, TextLayer
from .concept import Concept
from .errors import ConceptFileError
from .tensors import copied, is_finite

OFFICIAL_BIAS = 1.0
"""The mask value of the residual columns in the published code; the paper's formula has 0."""

_NAME = re.compile(r"residual\.(?:(\w+)\.)?(\d{1,4})\.(key|value)")

Pairs = Mapping[TextLayer, tuple[Tensor, Tensor]]
"""Residual keys and values, each (n, d), by layer."""


def residual_tensors(base: Base, layers: Pairs, logit_bias: float) -> dict[str, Tensor]:
    """The tensors of a CatVersion concept of this base."""
    tensors = {"logit_bias": torch.tensor(logit_bias)}
    for layer, (keys, values) in layers.items():
        encoder = "" if len(base.encoders) == 1 else f"{layer.encoder}."
        tensors[f"residual.{encoder}{layer.index}.key"] = copied(keys, torch.float32)
        tensors[f"residual.{encoder}{layer.index}.value"] = copied(values, torch.float32)
    return tensors


def residual_layers(concept: Concept) -> tuple[Pairs, float]:
    """(keys, values) by layer, each (n, d), and the logit bias. Raises ConceptFileError."""
    found: dict[TextLayer, dict[str, Tensor]] = {}
    first = BASES[concept.base].encoder_names[0]
    for name, tensor in concept.tensors.items():
        if match := _NAME.fullmatch(name):
            layer = TextLayer(match[1] or first, int(match[2]))
            found.setdefault(layer, {})[match[3]] = tensor.float()
    bias = concept.tensors.get("logit_bias")
    if (
        bias is None
        or bias.numel() != 1
        or not is_finite(bias)
        or not found
        or any(set(pair) != {"key", "value"} for pair in found.values())
    ):
        raise ConceptFileError(
            f"The {concept.title} lacks residual keys, values or its "
            "logit_bias. Save it again from where it was learned."
        )
    tensors = [t for pair in found.values() for t in pair.values()]
    shapes = {(layer.encoder, t.shape) for layer, pair in found.items() for t in pair.values()}
    if not _fit(concept, shapes):
        raise ConceptFileError(
            f"The {concept.title} has residuals of shapes "
            f"{sorted({tuple(shape) for _, shape in shapes})}; expected equal ones of width "
            f"{concept.text_width}."
        )
    if not all(map(is_finite, tensors)):
        raise ConceptFileError(
            f"The {concept.title} holds NaN or infinite numbers. Its "
            "training went wrong or its file is damaged: train it again."
        )
    layers = {n: (found[n]["key"], found[n]["value"]) for n in sorted(found)}
    return layers, float(bias)


def _fit(concept: Concept, shapes: set[tuple[str, torch.Size]]) -> bool:
    """Whether each of the base's encoders has residuals of one shape, equally many, and as wide
    together as the concept's words."""
    if any(len(shape) != 2 for _, shape in shapes):
        return False
    return (
        sorted(encoder for encoder, _ in shapes) == sorted(BASES[concept.base].encoder_names)
        and len({count for _, (count, _) in shapes}) == 1
        and sum(width for _, (_, width) in shapes) == concept.text_width
    )
