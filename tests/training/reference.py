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
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

TEXT_KEYS = "cond_stage_model.transformer.text_model."
XL_TEXT_KEYS = (
    "conditioner.embedders.0.transformer.text_model.",
    "conditioner.embedders.1.model.transformer.",
)
UNET_KEYS = "model.diffusion_model."


@dataclass(frozen=True)
class Shape:
    """A base model in the words of diffusers and transformers.

    text: CLIPTextConfig, all layers of the checkpoint; layers: those that reach the UNet;
    unet: UNet2DConditionModel; pad: text of the padding token
    second: of a base with two text encoders, the second one's CLIPTextConfig
    zero_snr: whether the last timestep is noise alone
    """

    text: Mapping[str, Any]
    layers: int
    unet: Mapping[str, Any]
    prediction: str = "epsilon"
    pad: str = "<|endoftext|>"
    second: Mapping[str, Any] | None = None
    zero_snr: bool = False


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
    return _filled(model, model.embeddings, weights)


def projected_text_model(
    weights: Mapping[str, Tensor], shape: Mapping[str, Any]
) -> CLIPTextModelWithProjection:
    """A whole text encoder with its projection, with these very tensors and no copy of them."""
    projection = {"projection_dim": shape["hidden_size"]}
    config = CLIPTextConfig(**{"eos_token_id": 49407, **shape, **projection})
    with torch.device("meta"):
        model = CLIPTextModelWithProjection(config)
    return _filled(model, model.text_model.embeddings, weights)


def _filled(model: Any, embeddings: Any, weights: Mapping[str, Tensor]) -> Any:
    embeddings.position_ids = torch.arange(model.config.max_position_embeddings)[None]
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
        _lengthen(self.text.embeddings)
        self.unet = unet_model(_under(UNET_KEYS, checkpoint), shape.unet)
        self.scheduler = scheduler(shape)
        self.tokenizer = longer_tokenizer(tokenizer, shape.pad, words)

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

    def predict(self, noisy: Tensor, t: Tensor, context: Any) -> Tensor:
        return self.unet(noisy, t, context).sample

    def denoising_loss(self, context: Any, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The same for prompts that are encoded already."""
        noisy = self.scheduler.add_noise(x0, noise, t)
        predicted = self.predict(noisy, t, context)
        if self.scheduler.config["prediction_type"] == "epsilon":
            return mse_loss(predicted, noise)
        return mse_loss(predicted, self.scheduler.get_velocity(x0, noise, t))


class ReferenceXL(Reference):
    """The same for Stable Diffusion XL: two text encoders, pooled vectors and sizes.

    Words are (n, d of the first encoder + d of the second); a context is rows and pooled vectors.
    """

    def __init__(self, checkpoint: Path, shape: Shape, tokenizer: Path, words: int) -> None:
        assert shape.second is not None
        first, second = (_under(keys, checkpoint) for keys in XL_TEXT_KEYS)
        self.text = text_model(first, shape.text, shape.text["num_hidden_layers"])
        self.second = projected_text_model(second, shape.second)
        self.embeddings = (self.text.embeddings, self.second.text_model.embeddings)
        for embeddings in self.embeddings:
            _lengthen(embeddings)
        self.unet = unet_model(_under(UNET_KEYS, checkpoint), shape.unet)
        self.scheduler = scheduler(shape)
        self.tokenizer = longer_tokenizer(tokenizer, shape.pad, words)
        self.second_tokenizer = longer_tokenizer(tokenizer, "!", words)

    def to(self, device: torch.device) -> Reference:
        self.second.to(device)
        return super().to(device)

    def context(self, words: Tensor, prompts: Sequence[str]) -> Any:
        """Rows (B, 77, d) and pooled vectors (B, e) of encoded prompts."""
        ids, second_ids = (
            tokenizer(list(prompts), padding="max_length", max_length=77, return_tensors="pt")
            for tokenizer in (self.tokenizer, self.second_tokenizer)
        )
        widths = [embeddings.token_embedding.table.shape[1] for embeddings in self.embeddings]
        for embeddings, part in zip(self.embeddings, words.split(widths, dim=-1), strict=True):
            embeddings.token_embedding.words = part
        first = self.text(ids.input_ids, output_hidden_states=True)
        second = self.second(second_ids.input_ids, output_hidden_states=True)
        rows = [first.hidden_states[-2], second.hidden_states[-2]]
        return torch.cat(rows, dim=-1), second.text_embeds

    def predict(self, noisy: Tensor, t: Tensor, context: Any) -> Tensor:
        rows, pooled = context
        height, width = (8 * side for side in noisy.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]]).expand(len(noisy), -1)
        told = {"text_embeds": pooled, "time_ids": sizes}
        return self.unet(noisy, t, rows, added_cond_kwargs=told).sample


def reference(checkpoint: Path, shape: Shape, tokenizer: Path, words: int) -> Reference:
    kind = Reference if shape.second is None else ReferenceXL
    return kind(checkpoint, shape, tokenizer, words)


def scheduler(shape: Shape) -> DDPMScheduler:
    made = DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=shape.prediction,
        rescale_betas_zero_snr=shape.zero_snr,
    )
    if shape.zero_snr:  # the host leaves that much of the picture, so that its noise is finite
        made.alphas_cumprod[-1] = 4.8973451890853435e-08
    return made


def longer_tokenizer(folder: Path, pad: str, words: int) -> CLIPTokenizer:
    tokenizer = CLIPTokenizer.from_pretrained(folder, pad_token=pad)
    tokenizer.add_tokens([f"<v{n}>" for n in range(words)])
    return tokenizer


def _lengthen(embeddings: Any) -> None:
    embeddings.token_embedding = LongerTable(embeddings.token_embedding.weight)


def _under(prefix: str, checkpoint: Path) -> dict[str, Tensor]:
    with safe_open(checkpoint, framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118
        return {key.removeprefix(prefix): file.get_tensor(key).float() for key in keys}
