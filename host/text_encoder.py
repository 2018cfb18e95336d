"""The host's CLIP text encoder as a differentiable function of its word embeddings."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from comfy import ops
from comfy.ldm.modules.attention import optimized_attention_for_device
from comfy.sd import CLIP
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..concepts.bases import Base
from .base_models import towers_of
from .residual_attention import Layers, Residuals, attend_with_residuals


class TextEncoder:
    """E(.) of the papers: exactly what the UNet is conditioned on, clip skip and LoRA included.

    Valid inside `Backbone.session` or after the host has loaded the CLIP.
    """

    def __init__(self, clip: CLIP) -> None:
        self.clip = clip
        self.tower = towers_of(clip).towers[0]
        self.layers: Any = self.tower.encoder.transformer.text_model

    @property
    def base(self) -> Base:
        return towers_of(self.clip).base

    @property
    def width(self) -> int:
        return self.tower.width

    @property
    def device(self) -> torch.device:
        return self.clip.patcher.load_device

    @property
    def last_layer(self) -> int:
        """Index of the last layer that reaches the conditioning."""
        return self._last_layer[0]

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, without begin and end."""
        return self.tower.tokenizer.tokenizer(text)["input_ids"][1:-1]

    def pad(self, ids: list[int]) -> list[int]:
        """[BOS, ids, EOS, pad ...] at the length of a prompt; the tail is cut."""
        tokenizer = self.tower.tokenizer
        kept = ids[: tokenizer.max_length - 2]
        row = [tokenizer.start_token, *kept, tokenizer.end_token]
        return row + [tokenizer.pad_token] * (tokenizer.max_length - len(row))

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings in fp32, (..., tokens) -> (..., tokens, width)."""
        table = self.layers.embeddings.token_embedding
        return table(ids.to(self.device), out_dtype=torch.float32)

    def word_norm(self) -> float:
        """Mean norm of a word's embedding, over every sixteenth of the vocabulary."""
        rows = self.layers.embeddings.token_embedding.weight.shape[0]
        return self.embed(torch.arange(0, rows, 16)).norm(dim=1).mean().item()

    def encode(self, embeds: Tensor, residuals: Layers | None = None) -> Tensor:
        """Conditioning of a batch of embedded prompts, (B, 77, width) -> (B, 77, width), fp32.

        The host's own layers, added up out of place: equal to the host's result bit for bit.
        """
        return self.finish(self.hidden(embeds, stop=0), start=0, residuals=residuals)

    def hidden(self, embeds: Tensor, stop: int) -> Tensor:
        """Hidden state that enters layer `stop`, (B, 77, width)."""
        position = self.layers.embeddings.position_embedding.weight
        x = embeds + ops.cast_to(position, dtype=torch.float32, device=embeds.device)
        return self._run(x, 0, stop, {})

    def finish(self, x: Tensor, start: int, residuals: Layers | None = None) -> Tensor:
        """Conditioning from the hidden state that enters layer `start`, (B, 77, width)."""
        last, with_norm = self._last_layer
        x = self._run(x, start, last + 1, residuals or {})
        return self.layers.final_layer_norm(x) if with_norm else x

    def embedding(self, embeds: Tensor, ends: Tensor) -> Tensor:
        """CLIP's embedding of embedded prompts after its projection, not normalised, (B, e), fp32.

        embeds: (B, 77, width); ends: row of each prompt's first end token, (B,)
        The host leaves the projection uninitialised where a checkpoint has none.
        """
        x = self._run(self.hidden(embeds, stop=0), 0, self.tower.encoder.num_layers, {})
        last = self.layers.final_layer_norm(x)[torch.arange(len(x)), ends]
        return self.tower.encoder.transformer.text_projection(last)

    def _run(self, x: Tensor, start: int, stop: int, residuals: Layers) -> Tensor:
        mask = torch.full((x.shape[1],) * 2, -torch.finfo(x.dtype).max, device=x.device).triu_(1)
        attention = optimized_attention_for_device(x.device, mask=True, small_input=True)
        for index in range(start, stop):
            layer, added = self.layers.encoder.layers[index], residuals.get(index)
            run = partial(_run_layer, layer, mask, attention, added)
            casts = layer.mlp.fc1.weight.dtype != x.dtype
            x = _run_twice(run, x) if casts and torch.is_grad_enabled() else run(x)
        return x

    @cached_property
    def _last_layer(self) -> tuple[int, bool]:
        """Index of the last layer that reaches the conditioning, and whether it is normalised."""
        encoder = self.tower.encoder
        encoder.reset_clip_options()
        if self.clip.layer_idx is not None:
            encoder.set_clip_options({"layer": self.clip.layer_idx})
        layer, index = encoder.layer, encoder.layer_idx
        encoder.reset_clip_options()
        if layer == "last" or index is None:
            return encoder.num_layers - 1, True
        return index % encoder.num_layers, encoder.layer_norm_hidden_state


def _run_twice(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Once now and once in the backward pass.

    Weights of another type are cast at every use, and autograd would keep the casts of all layers:
    a whole text encoder in fp32. Running a layer of 77 tokens again costs little.
    """
    output: Any = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False)
    return output


def _run_layer(
    layer: Any, mask: Tensor, attention: Any, added: Sequence[Residuals] | None, x: Tensor
) -> Tensor:
    normed = layer.layer_norm1(x)
    if added is None:
        x = x + layer.self_attn(normed, mask, attention)
    else:
        x = x + attend_with_residuals(layer.self_attn, normed, mask, attention, added)
    return x + layer.mlp(layer.layer_norm2(x))
