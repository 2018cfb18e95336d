"""Residual keys and values of a CatVersion concept, as its tensors.

A concept holds ``residual.<layer>.key`` and ``.value`` (n, d) for each changed layer of the text
encoder, and ``logit_bias``, which is added to the logits of the residual columns.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .concept import Concept
from .errors import ConceptFileError
from .tensors import copied, is_finite

OFFICIAL_BIAS = 1.0
"""The mask value of the residual columns in the published code; the paper's formula has 0."""

_NAME = re.compile(r"residual\.(\d+)\.(key|value)")


def residual_tensors(
    layers: Mapping[int, tuple[Tensor, Tensor]], logit_bias: float
) -> dict[str, Tensor]:
    """The tensors of a CatVersion concept from (keys, values) by layer."""
    tensors = {"logit_bias": torch.tensor(logit_bias)}
    for layer, (keys, values) in layers.items():
        tensors[f"residual.{layer}.key"] = copied(keys, torch.float32)
        tensors[f"residual.{layer}.value"] = copied(values, torch.float32)
    return tensors


def residual_layers(concept: Concept) -> tuple[dict[int, tuple[Tensor, Tensor]], float]:
    """(keys, values) by layer, each (n, d), and the logit bias. Raises ConceptFileError."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in concept.tensors.items():
        if match := _NAME.fullmatch(name):
            found.setdefault(int(match[1]), {})[match[2]] = tensor.float()
    bias = concept.tensors.get("logit_bias")
    if (
        bias is None
        or bias.numel() != 1
        or not found
        or any(set(pair) != {"key", "value"} for pair in found.values())
    ):
        raise ConceptFileError(
            f"The {concept.title} lacks residual keys, values or its "
            "logit_bias. Save it again from where it was learned."
        )
    tensors = [t for pair in found.values() for t in pair.values()]
    shapes = {tuple(t.shape) for t in tensors}
    if len(shapes) != 1 or tensors[0].ndim != 2 or tensors[0].shape[1] != concept.text_width:
        raise ConceptFileError(
            f"The {concept.title} has residuals of shapes "
            f"{sorted(shapes)}; expected equal ones of width {concept.text_width}."
        )
    if not all(map(is_finite, tensors)):
        raise ConceptFileError(
            f"The {concept.title} holds NaN or infinite numbers. Its "
            "training went wrong or its file is damaged: train it again."
        )
    layers = {n: (found[n]["key"], found[n]["value"]) for n in sorted(found)}
    return layers, float(bias)
