"""Attention maps of words, read while the UNet runs and without changing what it computes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import isqrt
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from einops import rearrange
from torch import Tensor, nn

from ..concepts.errors import BaseModelError

_OVERRIDE = "optimized_attention_override"  # where the host looks for another attention
_POSITIVE = 0  # in the host's list of what a batch holds
_MOST_SCALES = 7


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
        Returns (B, n, side, side) in fp32. Gradients reach queries and keys. Raises BaseModelError
        when the host went by the layers that make them.
        """
        maps = [
            word_attention(s.queries[: len(places)], s.keys[: len(places)], s.heads, places)
            for s in self.seen.values()
            if s.queries is not None and s.keys is not None
        ]
        if not maps:
            raise BaseModelError(
                "Expected the UNet to make queries and keys by its layers to_q and to_k, but it "
                "called none of them: this ComfyUI or another pack computes cross attention in "
                "another way. Train without attention maps, or bypass that pack."
            )
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


class AttentionRecorder:
    """Adds up the attention maps of words while a MODEL samples, for the prompt that is positive.

    It stands where the host calls its attention kernel, so that queries and keys are those that
    count: other packs' patches and a concept's own keys are in them. The result is the kernel's.

    rows: of each word, its rows in the conditioning
    tokens: number of rows of the conditioning
    size: height and width of the latent
    scale: of the layers to read, as a power of two of the latent's size; None for all
    sigmas: largest and smallest noise level to read
    """

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        tokens: int,
        size: tuple[int, int],
        scale: int | None = None,
        sigmas: tuple[float, float] = (math.inf, 0.0),
    ) -> None:
        self._rows, self._tokens, self._size = rows, tokens, size
        self._scale, self._sigmas = scale, sigmas
        self._sum, self._count = torch.zeros(len(rows), *size), 0
        self._scales: set[int] = set()

    def attached(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the MODEL whose attention is read."""
        clone = model.clone()
        options = clone.model_options.setdefault("transformer_options", {})
        options[_OVERRIDE] = partial(self._attend, options.get(_OVERRIDE))
        return clone

    def maps(self) -> Tensor:
        """The share of its attention that each place of the latent gives to each word, (n, h, w):
        mean over heads, layers and noise levels. Raises BaseModelError when nothing was read."""
        if not self._count:
            sides = ", ".join(f"1/{2**scale}" for scale in sorted(self._scales)) or "no"
            raise BaseModelError(
                f"No attention map was read: this MODEL showed maps of {sides} of the latent's "
                "sides in the part of the sampling that was looked at. Choose all layers and a "
                "wider range; if it shows none, another pack computes its attention: bypass that."
            )
        return self._sum / self._count

    def _attend(
        self, inner: Any, kernel: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *more: Any,
        **options: Any,
    ) -> Tensor:  # fmt: skip
        self._read(q, k, heads, options.get("transformer_options") or {})
        if inner is not None:
            return inner(kernel, q, k, v, heads, *more, **options)
        return kernel(q, k, v, heads, *more, **options)

    def _read(self, q: Tensor, k: Tensor, heads: int, options: Mapping[str, Any]) -> None:
        grid = grid_of(q.shape[1], self._size) if q.ndim == 3 else None
        # a shorter prompt is repeated to the length of a longer one in the same batch
        repeats, rest = divmod(k.shape[1], self._tokens)
        if grid is None or rest or not repeats or q.shape[1] == k.shape[1]:
            return
        self._scales.add(grid.scale)
        if self._scale not in (None, grid.scale) or not self._in_range(options):
            return
        which = options.get("cond_or_uncond") or [0]
        size = len(q) // len(which)
        for n, kind in enumerate(which):
            if kind == _POSITIVE:
                chunk = slice(n * size, (n + 1) * size)
                self._add(self._shares(q[chunk], k[chunk], heads, repeats), grid)

    def _in_range(self, options: Mapping[str, Any]) -> bool:
        sigma = options.get("sigmas")
        return sigma is None or self._sigmas[1] <= float(sigma.max()) <= self._sigmas[0]

    def _shares(self, q: Tensor, k: Tensor, heads: int, repeats: int) -> Tensor:
        """(n, N): each place's share for each word, mean over the batch."""
        every = [
            row + turn * self._tokens
            for rows in self._rows for row in rows for turn in range(repeats)
        ]  # fmt: skip
        places = torch.tensor(every).expand(len(q), -1)
        shares = word_attention(q, k, heads, places).mean(dim=0)
        counts = [len(rows) * repeats for rows in self._rows]
        return torch.stack([part.sum(dim=0) for part in shares.split(counts)])

    def _add(self, shares: Tensor, grid: "Grid") -> None:
        maps = shares.view(1, -1, grid.height, grid.width)
        whole = torch.nn.functional.interpolate(maps, self._size, mode="bilinear")
        self._sum += whole[0].cpu()
        self._count += 1


@dataclass(frozen=True)
class Grid:
    """The places of a layer: scale says how often the latent's size was halved."""

    height: int
    width: int
    scale: int


def grid_of(places: int, size: tuple[int, int]) -> Grid | None:
    """The grid of a layer with so many places in a latent of a size, None for no layer's number."""
    height, width = size
    for scale in range(_MOST_SCALES):
        if height * width == places:
            return Grid(height, width, scale)
        height, width = (height + 1) // 2, (width + 1) // 2
    return None
