"""Attention maps of words, read while the UNet runs and without changing what it computes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn


@dataclass
class QueriesKeys:
    """What one cross attention has looked with in the last pass: (B, N, c) and (B, T, c)."""

    heads: int
    queries: Tensor | None = None
    keys: Tensor | None = None

    def set_queries(self, *call: Any) -> None:
        self.queries = call[-1]

    def set_keys(self, *call: Any) -> None:
        self.keys = call[-1]


@dataclass
class AttentionReader:
    """Reads chosen cross attentions of a UNet; their attention kernel and result are the host's.

    layers: cross attentions by path, as `cross_attentions` finds them
    """

    layers: dict[str, Any]
    seen: dict[str, QueriesKeys] = field(default_factory=dict)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the queries and keys of the passes inside the block."""
        with ExitStack() as hooks:
            for path, layer in self.layers.items():
                self.seen[path] = found = QueriesKeys(layer.heads)
                modules = {"to_q": found.set_queries, "to_k": found.set_keys}
                for name, note in modules.items():
                    handle = layer.get_submodule(name).register_forward_hook(note)
                    hooks.callback(handle.remove)
            yield

    def sides(self) -> dict[str, int]:
        """Side of each square map that was read."""
        return {p: isqrt(s.queries.shape[1]) for p, s in self.seen.items() if s.queries is not None}

    def word_maps(self, places: Tensor) -> Tensor:
        """How much each pixel looks at some words, mean over heads and layers, of the last pass.

        places: (B, n) columns of words in the prompts of the first B rows of the batch
        Returns (B, n, side, side) in fp32. Gradients reach queries and keys.
        """
        maps = [
            word_attention(s.queries[: len(places)], s.keys[: len(places)], s.heads, places)
            for s in self.seen.values()
            if s.queries is not None and s.keys is not None
        ]
        mean = torch.stack(maps).mean(dim=0)
        return rearrange(mean, "b n (h w) -> b n h w", h=isqrt(mean.shape[-1]))


def word_attention(queries: Tensor, keys: Tensor, heads: int, places: Tensor) -> Tensor:
    """Share of the attention that each query gives to some tokens, mean over heads.

    queries: (B, N, heads * d); keys: (B, T, heads * d); places: (B, n) rows of the keys
    Returns (B, n, N) in fp32: softmax(Q K^T / sqrt(d)) over all T keys, columns `places`.
    """
    q = rearrange(queries, "b n (h d) -> b h n d", h=heads).float()
    k = rearrange(keys, "b t (h d) -> b h d t", h=heads).float()
    logits = (q * q.shape[-1] ** -0.5) @ k
    columns = places.to(logits.device)[:, None, None, :].expand(*logits.shape[:3], -1)
    shares = logits.softmax(dim=-1).gather(-1, columns)
    return rearrange(shares.mean(dim=1), "b n t -> b t n")


def cross_attentions(unet: nn.Module) -> dict[str, nn.Module]:
    """Every cross attention of the host's UNet by its path."""
    return {path: layer for path, layer in unet.named_modules() if path.endswith(".attn2")}


def nearest_side(sides: Sequence[int], wanted: int) -> int:
    """The side nearest to the wanted one by ratio; of two equally near the larger."""
    return min(sides, key=lambda side: (max(side / wanted, wanted / side), -side))
