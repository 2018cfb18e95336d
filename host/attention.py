"""The host's cross attention: its fused kernel, and the places where a block's can be replaced."""

from collections.abc import Callable
from typing import Any

from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

Replace = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
"""Takes the place of a block's attention: q, k, v after the projections, and the host's options."""

Place = tuple[str, int, int]
"""A transformer block: part of the UNet, number in it, depth."""


def cross_attention(q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
    """Attention after the projections, (B, N, heads * d), inside a patch of a block.

    extra_options: what the host hands to the patch
    """
    return optimized_attention(
        q,
        k,
        v,
        extra_options["n_heads"],
        attn_precision=extra_options.get("attn_precision"),
        transformer_options=extra_options,
    )


def patch_place(path: str) -> Place:
    """The host's name of a transformer block for patches: input_blocks.1.1.transformer_blocks.0 is
    ("input", 1, 0); the middle block counts as number 0."""
    parts = path.split(".")
    name = parts[0].removesuffix("_blocks").removesuffix("_block")
    return name, 0 if name == "middle" else int(parts[1]), int(parts[-1])
