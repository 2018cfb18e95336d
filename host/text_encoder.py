"""The host's CLIP text encoder as a differentiable function of its word embeddings."""

import torch
from comfy import ops
from comfy.ldm.modules.attention import optimized_attention_for_device
from comfy.sd import CLIP
from torch import Tensor

from .bases import text_tower


class TextEncoder:
    """E(.) of the papers: exactly what the UNet is conditioned on, clip skip and LoRA included.

    Valid inside `Backbone.session` or after the host has loaded the CLIP.
    """

    def __init__(self, clip: CLIP) -> None:
        self.clip = clip
        self.tower = text_tower(clip)
        self.layers = self.tower.encoder.transformer.text_model

    @property
    def width(self) -> int:
        return self.tower.width

    @property
    def device(self) -> torch.device:
        return self.clip.patcher.load_device

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

    def encode(self, embeds: Tensor) -> Tensor:
        """Conditioning of a batch of embedded prompts, (B, 77, width) -> (B, 77, width), fp32.

        The host's own layers, added up out of place: equal to the host's result bit for bit.
        """
        position = self.layers.embeddings.position_embedding.weight
        x = embeds + ops.cast_to(position, dtype=torch.float32, device=embeds.device)
        mask = torch.full((x.shape[1],) * 2, -torch.finfo(x.dtype).max, device=x.device).triu_(1)
        attention = optimized_attention_for_device(x.device, mask=True, small_input=True)
        last, with_norm = self._last_layer()
        for layer in self.layers.encoder.layers[: last + 1]:
            x = x + layer.self_attn(layer.layer_norm1(x), mask, attention)
            x = x + layer.mlp(layer.layer_norm2(x))
        return self.layers.final_layer_norm(x) if with_norm else x

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
