"""The host's fused attention, called as its own cross attention calls it."""

from typing import Any

from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor


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
