"""Textual Inversion as plain diffusers and transformers do it, without the host and the pack.

What the pack computes is held against this: models from the same checkpoint file, a tokenizer
with the new words added, their vectors as further rows of the embedding table, the scheduler's
own noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT_KEYS = "cond_stage_model.transformer.text_model."
UNET_KEYS = "model.diffusion_model."


@dataclass(frozen=True)
class Shape:
    """A base model in the words of diffusers and transformers.

    text: CLIPTextConfig, all layers of the checkpoint; layers: those that reach the UNet;
    unet: UNet2DConditionModel; pad: text of the padding token
    """

    text: Mapping[str, Any]
    layers: int
    unet: Mapping[str, Any]
    prediction: str = "epsilon"
    pad: str = "<|endoftext|>"


SD1_TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "hidden_act": "quick_gelu",
}
SD2_TEXT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "hidden_act": "gelu",
}
SD1_UNET = {
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD1 = Shape(SD1_TEXT, 12, SD1_UNET)


def text_model(
    weights: Mapping[str, Tensor], shape: Mapping[str, Any], layers: int
) -> CLIPTextModel:
    """The text encoder up to its last used layer, with these very tensors and no copy of them."""
    config = CLIPTextConfig(**{"eos_token_id": 49407, **shape, "num_hidden_layers": layers})
    with torch.device("meta"):
        model = CLIPTextModel(config)
    model.embeddings.position_ids = torch.arange(config.max_position_embeddings)[None]
    unused = model.load_state_dict(weights, strict=False, assign=True)
    if unused.missing_keys:
        raise ValueError(f"The checkpoint lacks weights of the text encoder: {unused.missing_keys}")
    return model.requires_grad_(False).eval()


def unet_model(weights: Mapping[str, Tensor], shape: Mapping[str, Any]) -> UNet2DConditionModel:
    """The UNet from the keys of a checkpoint file, with these very tensors and no copy of them."""
    with torch.device("meta"):
        model = UNet2DConditionModel(**shape)
    prefixed = {UNET_KEYS + key: weight for key, weight in weights.items()}
    model.load_state_dict(convert_ldm_unet_checkpoint(prefixed, dict(model.config)), assign=True)
    return model.requires_grad_(False).eval()


class LongerTable(nn.Module):
    """An embedding table with trainable words as its last rows, without a copy of the others."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table, persistent=False)
        self.words = table[:0]

    def forward(self, ids: Tensor) -> Tensor:
        rows = len(self.table)
        embeds = self.table[ids.clamp(max=rows - 1)]
        return embeds.index_put(
            (ids >= rows).nonzero(as_tuple=True), self.words[ids[ids >= rows] - rows]
        )


class Reference:
    """The frozen models, and the loss of one Textual Inversion step."""

    def __init__(self, checkpoint: Path, shape: Shape, tokenizer: Path, words: int) -> None:
        self.text = text_model(_under(TEXT_KEYS, checkpoint), shape.text, shape.layers)
        embeddings = self.text.embeddings
        embeddings.token_embedding = LongerTable(embeddings.token_embedding.weight)
        self.unet = unet_model(_under(UNET_KEYS, checkpoint), shape.unet)
        self.scheduler = DDPMScheduler(
            num_train_timesteps=1000,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=shape.prediction,
        )
        self.tokenizer = CLIPTokenizer.from_pretrained(tokenizer, pad_token=shape.pad)
        self.tokenizer.add_tokens([f"<v{n}>" for n in range(words)])

    def to(self, device: torch.device) -> Reference:
        self.text.to(device)
        self.unet.to(device)
        return self

    def context(self, words: Tensor, prompts: Sequence[str]) -> Tensor:
        """Encoded prompts with <v0>, <v1> ... for the words, (n, d) -> (B, 77, d)."""
        ids = self.tokenizer(
            list(prompts), padding="max_length", max_length=77, return_tensors="pt"
        ).input_ids.to(self.text.device)
        self.text.embeddings.token_embedding.words = words
        return self.text(ids).last_hidden_state

    def loss(
        self, words: Tensor, prompts: Sequence[str], x0: Tensor, noise: Tensor, t: Tensor
    ) -> Tensor:
        """Mean squared error of the UNet's prediction for latents at its scale."""
        return self.denoising_loss(self.context(words, prompts), x0, noise, t)

    def denoising_loss(self, context: Tensor, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The same for prompts that are encoded already."""
        noisy = self.scheduler.add_noise(x0, noise, t)
        predicted = self.unet(noisy, t, context).sample
        if self.scheduler.config["prediction_type"] == "epsilon":
            return mse_loss(predicted, noise)
        return mse_loss(predicted, self.scheduler.get_velocity(x0, noise, t))


def _under(prefix: str, checkpoint: Path) -> dict[str, Tensor]:
    with safe_open(checkpoint, framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118
        return {key.removeprefix(prefix): file.get_tensor(key).float() for key in keys}
