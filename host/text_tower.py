"""One of the host's CLIP text encoders as a differentiable function of its word embeddings."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention_for_device
from comfy.sd import CLIP
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..concepts.bases import TextLayer
from .bases.host_base import Tower
from .conditioning import TowerOutput
from .repeatable import repeatable_attention
from .text_attention import LayerAttention, LayerAttentions


class TowerEncoder:
    """The host's own layers, added up out of place: equal to the host's result bit for bit.

    The host's layers add in place, which autograd refuses; so its own forward cannot be used.
    """

    def __init__(self, tower: Tower, clip: CLIP) -> None:
        self.tower, self.clip = tower, clip
        self.name, self.text_model = tower.name, tower.text_model

    @property
    def device(self) -> torch.device:
        return self.clip.patcher.load_device

    @property
    def last_layer(self) -> int:
        """Index of the last layer that reaches the conditioning."""
        return self._last_layer[0]

    @property
    def layers(self) -> int:
        return self.tower.encoder.num_layers

    def pad(self, ids: list[int]) -> list[int]:
        """[BOS, ids, EOS, pad ...] at the length of a prompt; the tail is cut."""
        tokenizer = self.tower.tokenizer
        kept = ids[: tokenizer.max_length - 2]
        row = [tokenizer.start_token, *kept, tokenizer.end_token]
        return row + [tokenizer.pad_token] * (tokenizer.max_length - len(row))

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings in fp32, (..., tokens) -> (..., tokens, d)."""
        table = self.text_model.embeddings.token_embedding
        return table(ids.to(self.device), out_dtype=torch.float32)

    def word_norm(self) -> float:
        """Mean norm of a word's embedding, over every sixteenth of the vocabulary."""
        rows = self.text_model.embeddings.token_embedding.weight.shape[0]
        return self.embed(torch.arange(0, rows, 16)).norm(dim=1).mean().item()

    def hidden(self, embeds: Tensor, stop: int) -> Tensor:
        """Hidden state that enters layer `stop`, (B, 77, d)."""
        position = self.text_model.embeddings.position_embedding.weight
        x = embeds + position.to(embeds.device, torch.float32)
        return self._run(x, 0, stop, {})

    def finish(
        self, x: Tensor, start: int, ends: Tensor, attention: LayerAttentions
    ) -> TowerOutput:
        """What the hidden state that enters layer `start` becomes."""
        last, with_norm = self._last_layer
        x = self._run(x, start, last + 1, attention)
        norm: Callable[[Tensor], Tensor] = self.text_model.final_layer_norm
        return TowerOutput(
            norm(x) if with_norm else x,
            ends,
            lambda: norm(self._run(x, last + 1, self.layers, attention)),
            self.tower.encoder.transformer.text_projection,
        )

    def _run(self, x: Tensor, start: int, stop: int, attention: LayerAttentions) -> Tensor:
        mask = torch.full((x.shape[1],) * 2, -torch.finfo(x.dtype).max, device=x.device).triu_(1)
        kernel = optimized_attention_for_device(x.device, mask=True, small_input=True)
        kernel = repeatable_attention(kernel)
        for index in range(start, stop):
            layer = self.text_model.encoder.layers[index]
            attend = attention.get(TextLayer(self.name, index), _own_attention)
            run = partial(_run_layer, layer, attend, mask, kernel)
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


def _own_attention(attn: Any, x: Tensor, mask: Tensor, kernel: Any) -> Tensor:
    return attn(x, mask, kernel)


def _run_layer(layer: Any, attend: LayerAttention, mask: Tensor, kernel: Any, x: Tensor) -> Tensor:
    x = x + attend(layer.self_attn, layer.layer_norm1(x), mask, kernel)
    return x + layer.mlp(layer.layer_norm2(x))
