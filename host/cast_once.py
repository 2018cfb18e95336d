"""Weights of another type than is computed in, cast once instead of at each use.

The host casts an fp16 weight where bf16 is computed, or a text encoder's where fp32 is, at each
use: forward, backward, and again where a layer runs twice. On a GPU that is a quarter of a step
with one picture. Copies cost as much memory as the weights, so a training asks for them where there
is room. What is computed is the same, bit for bit.
"""

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from .frozen_layers import is_plain

Types = Mapping[nn.Module, torch.dtype]
"""Modules, and the type that their layers compute in."""


@contextmanager
def cast_once(types: Types, but: Container[nn.Module] = ()) -> Iterator[None]:
    """A block in which the modules' linear layers and convolutions hold weights of their type.

    but: layers that are left alone, such as those in training
    """
    swapped: list[tuple[nn.Module, str, nn.Parameter, nn.Parameter]] = []
    try:
        for layer, dtype in _layers(types, but):
            for name, weight in list(layer._parameters.items()):
                if weight is not None and weight.dtype != dtype:
                    copy = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
                    layer._parameters[name] = copy
                    swapped.append((layer, name, weight, copy))
        yield
    finally:
        for layer, name, weight, copy in swapped:
            if layer._parameters[name] is copy:
                layer._parameters[name] = weight


def cast_bytes(types: Types, but: Container[nn.Module] = ()) -> int:
    """Memory of the copies that `cast_once` makes."""
    return sum(
        weight.numel() * dtype.itemsize
        for layer, dtype in _layers(types, but)
        for weight in layer.parameters(recurse=False)
        if weight.dtype != dtype
    )


def _layers(types: Types, but: Container[nn.Module]) -> Iterator[tuple[nn.Module, torch.dtype]]:
    for module, dtype in types.items():
        for layer in module.modules():
            if is_plain(layer) and layer not in but:
                yield layer, dtype
