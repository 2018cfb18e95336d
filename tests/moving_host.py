"""A host that moves weights whenever it loads a model, as it does to and from a GPU.

`module.to(device)` does `parameter.data = moved` and puts moved buffers into the module. On a CPU
the host has nothing to move, so a load at the wrong moment goes unseen there.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn


def move(module: nn.Module) -> None:
    """Give every weight another memory."""
    for part in module.modules():
        for weight in part.parameters(recurse=False):
            weight.data = weight.data.clone()
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = buffer.clone()


def host_that_moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the host move what it loads. The list fills with the names of what it has loaded."""
    from comfy import model_management

    load, moved = model_management.load_models_gpu, []

    def load_and_move(models: Any, *args: Any, **kwargs: Any) -> None:
        load(models, *args, **kwargs)
        for patcher in models:
            move(patcher.model)
            moved.append(type(patcher.model).__name__)

    monkeypatch.setattr(model_management, "load_models_gpu", load_and_move)
    return moved


@torch.inference_mode()
def sampled(
    tiny: Any, model: Any = None, clip: Any = None, text: str = "a photo of a dog"
) -> Tensor:
    """A conditioning, a picture sampled from it and its latents, all in one row."""
    from nodes import CLIPTextEncode, KSampler

    encode = CLIPTextEncode().encode
    positive, negative = (encode(clip or tiny.clip, t)[0] for t in (text, ""))
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    settings = (3, 2, 3.0, "euler", "normal", positive, negative, latent, 1.0)
    latents = KSampler().sample(model or tiny.model, *settings)[0]["samples"]
    picture = tiny.vae.decode(latents)
    parts = positive[0][0], picture, tiny.vae.encode(picture)
    return torch.cat([part.flatten() for part in parts])


def weights_of(tiny: Any) -> list[Tensor]:
    """All parameters of MODEL, CLIP and VAE."""
    modules = (tiny.model.model, tiny.clip.cond_stage_model, tiny.vae.first_stage_model)
    return [weight for module in modules for weight in module.parameters()]
