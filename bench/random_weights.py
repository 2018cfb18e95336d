"""Models of real shapes with random weights, in fp16, well scaled: they cost what real ones do. And
latents for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SEED = 0
UNET, TEXT = "model.diffusion_model.", "cond_stage_model.transformer.text_model."
VAE = "first_stage_model."
SD15_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "num_heads": 8,
    "use_spatial_transformer": True,
    "context_dim": 768,
    "legacy": False,
}
SDXL_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "num_heads": -1,
    "num_head_channels": 64,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "context_dim": 2048,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
    "legacy": False,
}
VAE_CONFIG = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def random_latents(count: int, side: int, seed: int = SEED) -> Tensor:
    """Latents of unit spread, (count, 4, side, side), the same on every device."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, side, side, generator=generator)


def make_sd15(path: Path, vae: bool = False) -> None:
    """A checkpoint of SD1.5's shapes: UNet and text encoder, 2 GB, with or without its VAE."""
    _save(sd15_shapes() | (vae_shapes() if vae else {}), path)


def make_vision(path: Path, config: Mapping[str, Any] | None = None) -> None:
    """A CLIP vision encoder, of ViT-L/14's shapes (0.6 GB) unless a config says otherwise; the
    config stands in the file."""
    config = config or vit_l()
    _save(vision_shapes(config), path, {"config": json.dumps(config)})


def make_sam(path: Path) -> None:
    """Segment Anything ViT-B with the weights of its own initialisation, as the authors save it."""
    import torch
    from segment_anything import sam_model_registry

    torch.manual_seed(SEED)
    torch.save(sam_model_registry["vit_b"]().state_dict(), path)


def _save(
    shapes: Mapping[str, torch.Size], path: Path, about: dict[str, str] | None = None
) -> None:
    import torch
    from safetensors.torch import save_file

    noise = torch.randn(1 << 24, generator=torch.Generator().manual_seed(SEED))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: _random_weight(key, shape, noise) for key, shape in shapes.items()}, path, about
    )


def sd15_shapes() -> dict[str, torch.Size]:
    """Keys and shapes of an SD1.5 checkpoint, without its VAE."""
    import torch
    from comfy import ops, sd1_clip
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        **SD15_UNET, dtype=torch.float16, device="meta", operations=ops.disable_weight_init
    )
    text = sd1_clip.SDClipModel(device="meta", dtype=torch.float16).transformer.text_model
    return _named(UNET, unet) | _named(TEXT, text)


def vae_shapes() -> dict[str, torch.Size]:
    """Keys and shapes of its VAE."""
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL

    with torch.device("meta"):
        return _named(VAE, AutoencoderKL(embed_dim=4, ddconfig=VAE_CONFIG))


def vit_l() -> dict[str, Any]:
    """CLIP ViT-L/14's vision encoder, as the host's own file describes it."""
    from comfy import clip_model

    file = Path(clip_model.__file__).with_name("clip_vision_config_vitl.json")
    return json.loads(file.read_text(encoding="utf-8"))


def vision_shapes(config: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Keys and shapes of a CLIP vision encoder."""
    import torch
    from comfy import clip_model, ops

    operations = ops.disable_weight_init
    tower = clip_model.CLIPVisionModelProjection(config, torch.float16, "meta", operations)
    return _named("", tower)


def _named(prefix: str, module: torch.nn.Module) -> dict[str, torch.Size]:
    return {prefix + key: weight.shape for key, weight in module.state_dict().items()}


def _random_weight(key: str, shape: torch.Size, noise: Tensor) -> Tensor:
    import torch

    if len(shape) < 2:
        return torch.full(shape, 1.0 if key.endswith("weight") else 0.01, dtype=torch.float16)
    scale = 0.015 if "embedding" in key else shape[1:].numel() ** -0.5
    weight = (noise[: shape.numel()] * scale).half()
    return weight.repeat(-(-shape.numel() // len(weight)))[: shape.numel()].view(shape)
