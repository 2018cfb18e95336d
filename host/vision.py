"""Features of several layers of the host's CLIP vision encoder."""

from collections.abc import Sequence
from typing import Any

import torch
from comfy import model_management
from comfy.clip_model import clip_preprocess
from torch import Tensor

from ..concepts.errors import BaseModelError
from ..concepts.vision import VisionShape
from .repeatable import repeatable

_TOGETHER = 8


def vision_shape(clip_vision: Any) -> VisionShape:
    """Width, layers and patches of a CLIP vision encoder; raise for encoders of another kind."""
    config = getattr(clip_vision, "config", None) or {}
    kind = getattr(clip_vision, "model_type", type(clip_vision).__name__)
    if kind != "clip_vision_model" or "hidden_size" not in config:
        raise BaseModelError(
            f"This CLIP_VISION is a {kind} of width {config.get('hidden_size', 'unknown')}. "
            "Expected a CLIP vision encoder with a class token, such as CLIP ViT-L/14 (width 1024)."
        )
    side = clip_vision.image_size // config["patch_size"]
    return VisionShape(config["hidden_size"], config["num_hidden_layers"], side**2)


@torch.inference_mode()
def layer_features(clip_vision: Any, pictures: Tensor, layers: Sequence[int]) -> Tensor:
    """Hidden states of some layers, before any norm that follows the last one.

    pictures: (B, H, W, 3) in 0..1, each resized as a whole to the encoder's square
    layers: numbers of hidden states from 1, the first layer's output; 0 would be the embeddings
    Returns (len(layers), B, 1 + P, width), class token first, on the encoder's device.
    """
    vision_shape(clip_vision)
    pixels = _preprocessed(clip_vision, pictures)
    with repeatable():
        states = clip_vision.model(pixel_values=pixels, intermediate_output="all")[1]
    # (B, layers, 1 + P, width), whose first layer's output is hidden state 1
    return torch.stack([states[:, layer - 1] for layer in layers]).float()


@torch.inference_mode()
def image_embeddings(clip_vision: Any, pictures: Tensor) -> Tensor:
    """CLIP's embedding of whole pictures, after its projection and not normalised, (B, e), CPU.

    pictures: (B, H, W, 3) in 0..1; a few at a time are encoded
    """
    vision_shape(clip_vision)
    with repeatable():
        parts = [
            clip_vision.model(pixel_values=_preprocessed(clip_vision, some))[2]
            for some in pictures.split(_TOGETHER)
        ]
    embeddings = torch.cat(parts).float().cpu()
    with torch.inference_mode(False):
        return embeddings.clone()


def _preprocessed(clip_vision: Any, pictures: Tensor) -> Tensor:
    model_management.load_model_gpu(clip_vision.patcher)
    return clip_preprocess(
        pictures.to(clip_vision.load_device, torch.float32),
        size=clip_vision.image_size,
        mean=clip_vision.image_mean,
        std=clip_vision.image_std,
        crop=False,
    )
