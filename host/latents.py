"""VAE latents with their posterior, encoded by the host's VAE."""

from dataclasses import dataclass

import torch
from comfy.sd import VAE
from torch import Generator, Tensor

from ..concepts.errors import BaseModelError


@dataclass(frozen=True)
class LatentPosterior:
    """Gaussian posterior of encoded pictures, at the VAE's scale; both (N, C, h, w), fp32, CPU."""

    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return self.mean.shape[0]

    def sample(self, index: Tensor, generator: Generator) -> Tensor:
        """One sample of each indexed picture's posterior, (B, C, h, w)."""
        noise = torch.randn(self.mean[index].shape, generator=generator)
        return self.mean[index] + self.std[index] * noise


def encode_posterior(vae: VAE, pictures: Tensor) -> LatentPosterior:
    """Encode pictures (N, H, W, 3) in 0..1. A VAE without a posterior (TAESD) gets std 0."""
    channels = getattr(vae, "latent_channels", None)
    if channels != 4:
        raise BaseModelError(
            f"This VAE has {channels} latent channels. Stable Diffusion 1.x and 2.x need a VAE "
            "with 4: take the one of your checkpoint."
        )
    moments: list[Tensor] = []
    regularization = getattr(vae.first_stage_model, "regularization", None)
    hook = None
    if isinstance(regularization, torch.nn.Module):
        hook = regularization.register_forward_pre_hook(
            lambda _module, inputs: moments.append(inputs[0].detach().float().cpu())
        )
    try:
        with torch.inference_mode():
            latents = vae.encode(pictures)
    finally:
        if hook is not None:
            hook.remove()
    with torch.inference_mode(False):
        mean = latents.float().cpu().clone()
        std = _std_of(moments, mean)
    return LatentPosterior(mean, std)


def _std_of(moments: list[Tensor], mean: Tensor) -> Tensor:
    seen = torch.cat(moments) if moments and sum(map(len, moments)) == len(mean) else None
    if seen is None or seen.shape[2:] != mean.shape[2:] or seen.shape[1] != 2 * mean.shape[1]:
        return torch.zeros_like(mean)  # no posterior, or the host went over to tiles
    log_variance = seen.chunk(2, dim=1)[1].clamp(-30.0, 20.0)
    return torch.exp(0.5 * log_variance).clone()
