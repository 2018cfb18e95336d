"""One step's random draw, and the denoising loss that every method shares."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import mse_loss

from ..host.backbone import Backbone
from .pictures import EncodedPictures


@dataclass(frozen=True)
class Batch:
    """Clean latents, noise and timesteps of one step, on the model's device.

    x0, noise: (B, C, h, w) at the UNet's scale; t: (B,); index: picture of each row, (B,);
    prompt: training prompt of each row, (B,)
    """

    x0: Tensor
    noise: Tensor
    t: Tensor
    index: Tensor
    prompt: Tensor


def draw_batch(
    pictures: EncodedPictures, backbone: Backbone, size: int, prompts: int, generator: Generator
) -> Batch:
    """Pictures, flips, posterior samples, noise, timesteps and prompts for one step.

    All of it comes from one generator on the CPU, so that it is the same on every device.
    """
    index = torch.randint(len(pictures), (size,), generator=generator)
    prompt = torch.randint(prompts, (size,), generator=generator)
    mirrored = torch.rand(size, generator=generator) < 0.5
    latents = pictures.sample(index, mirrored, generator)
    noise = torch.randn(latents.shape, generator=generator)
    t = torch.randint(backbone.denoiser.timesteps, (size,), generator=generator)
    x0 = backbone.denoiser.scale_latents(latents.to(backbone.device))
    return Batch(x0, noise.to(backbone.device), t, index, prompt)


def denoising_loss(backbone: Backbone, batch: Batch, context: Tensor) -> Tensor:
    """L_LDM = mean ||target - prediction||^2 over the batch (Rombach et al. 2022, eq. 3)."""
    prediction = backbone.denoiser.predict(batch.x0, batch.noise, batch.t, context)
    return mse_loss(prediction, backbone.denoiser.target(batch.x0, batch.noise, batch.t))
