"""VAE latents with their posterior, encoded by the host's VAE."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from comfy.sd import VAE
from torch import Generator, Tensor

from ..concepts.errors import BaseModelError
from .repeatable import repeatable


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
            f"This VAE has {channels} latent channels. Stable Diffusion 1.x, 2.x and XL need a VAE "
            "with 4: take the one of your checkpoint."
        )
    with _moments(vae) as moments, repeatable(), torch.inference_mode():
        # each alone: the host makes batches as memory allows, and their size changes bits
        encoded = [_encoded(vae, picture[None], moments) for picture in pictures]
    if not all(mean.isfinite().all() for mean, _ in encoded):
        raise BaseModelError(
            "The VAE gave latents that are not finite numbers, as that of Stable Diffusion XL does "
            "in fp16. Start ComfyUI with --bf16-vae or --fp32-vae, or take a VAE that was mended "
            "for fp16."
        )
    lost = sum(std is None for _, std in encoded) if moments is not None else 0
    if lost:
        logging.warning(
            f"The VAE had too little memory for {lost} of {len(encoded)} pictures of "
            f"{pictures.shape[2]} x {pictures.shape[1]} and encoded them in tiles. Their latents "
            "have no variation of their own then, and vary less in training. Free memory or lower "
            "the resolution."
        )
    with torch.inference_mode(False):
        mean = torch.cat([mean for mean, _ in encoded]).clone()
        std = [torch.zeros_like(mean[:1]) if std is None else std for _, std in encoded]
        return LatentPosterior(mean, torch.cat(std).clone())


@contextmanager
def _moments(vae: VAE) -> Iterator[list[Tensor] | None]:
    """What the VAE's encoder gives, as a list that fills; None for a VAE without a posterior."""
    regularization = getattr(vae.first_stage_model, "regularization", None)
    if not isinstance(regularization, torch.nn.Module):
        yield None
        return
    seen: list[Tensor] = []
    hook = regularization.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].detach().float().cpu())
    )
    try:
        yield seen
    finally:
        hook.remove()


def _encoded(
    vae: VAE, picture: Tensor, moments: list[Tensor] | None
) -> tuple[Tensor, Tensor | None]:
    """Mean and deviation of one picture's posterior, (1, C, h, w); no deviation when there is none,
    or when the host went over to tiles."""
    if moments is not None:
        moments.clear()
    mean = vae.encode(picture).float().cpu()
    wanted = (1, 2 * mean.shape[1], *mean.shape[2:])
    if moments is None or len(moments) != 1 or moments[0].shape != wanted:
        return mean, None
    log_variance = moments[0].chunk(2, dim=1)[1].clamp(-30.0, 20.0)
    return mean, torch.exp(0.5 * log_variance)
