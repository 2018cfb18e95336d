"""Seeded random checkpoints of the tiny families, scaled so that signals keep their size."""

import math
from pathlib import Path

import torch
from comfy.taesd.taesd import TAESD
from safetensors.torch import save_file
from torch import Tensor

from .families import FAMILIES, V_PREDICTION_KEY, ZERO_SNR_KEY
from .narrow_vae import narrow

UNET_SHAPE = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_checkpoint": False,
    "legacy": False,
    "use_temporal_resblock": False,
    "dtype": torch.float32,
}
DEEPER_UNET_SHAPE = UNET_SHAPE | {
    "transformer_depth": [1, 2],
    "transformer_depth_output": [1, 1, 2, 2],
    "transformer_depth_middle": 2,
    "num_classes": "sequential",
}
EMBEDDING_NORM = 0.4  # of one token embedding, as in CLIP ViT-L


def make_checkpoint(
    path: Path, kind: str, seed: int = 0, dtype: torch.dtype = torch.float16
) -> Path:
    """Write a checkpoint of a kind of `KINDS` for the host's loaders; return its path.

    All weights are random but well scaled: latents, noise predictions and text outputs have a size
    near 1, and another prompt gives another picture. Same seed and kind, same weights (rounded to
    dtype).
    """
    generator = torch.Generator().manual_seed(seed)
    family = FAMILIES[kind]
    two_encoders = kind in ("sdxl", "sdxlv")
    config = family(family.unet_config | (DEEPER_UNET_SHAPE if two_encoders else UNET_SHAPE))
    parts = {
        "model.diffusion_model.": config.get_model({}).diffusion_model,
        **_text_encoders(config),
        "first_stage_model.": narrow(TAESD()),
    }
    tensors = {
        prefix + key: _random_weight(prefix + key, weight.shape, generator).to(dtype)
        for prefix, module in parts.items()
        for key, weight in module.state_dict().items()
    }
    # TAESD divides by the scale of the base's own latents, so that these mean the same
    tensors["first_stage_model.vae_scale"] = torch.tensor(config.latent_format.scale_factor)
    tensors["first_stage_model.vae_shift"] = torch.tensor(0.0)
    if kind.endswith("v"):
        tensors[V_PREDICTION_KEY] = torch.tensor([])
    if kind == "sdxlv":
        tensors[ZERO_SNR_KEY] = torch.tensor([])
    save_file(tensors, path)
    return path


def _text_encoders(config) -> dict[str, torch.nn.Module]:
    """By the prefix of their keys in a published checkpoint."""
    clip = config.clip_target().clip(dtype=torch.float32)
    if hasattr(clip, "clip"):
        return {"cond_stage_model.": getattr(clip, clip.clip)}
    return {
        "conditioner.embedders.0.": clip.clip_l,
        "conditioner.embedders.1.model.": clip.clip_g,
    }


def _random_weight(key: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if "embedding.weight" in key:
        return noise * EMBEDDING_NORM / math.sqrt(shape[-1])
    if key.endswith("logit_scale"):
        return torch.tensor(4.6055)
    if len(shape) < 2:
        return 0.05 * noise + (1.0 if key.endswith("weight") else 0.0)
    return noise * _gain(key) / math.sqrt(shape[1:].numel())


def _gain(key: str) -> float:
    """TAESD's layers feed a ReLU, which halves the power; the last of a branch is damped."""
    if ".taesd_" not in key:
        return 0.5 if ".out.2." in key else 1.0
    return 0.3 if ".conv.4." in key else math.sqrt(2)
