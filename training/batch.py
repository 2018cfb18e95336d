"""One step's random draw, and the denoising loss that every method shares."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn.functional import mse_loss

from ..host.attention import Place, Replace
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from .pictures import EncodedPictures


@dataclass(frozen=True)
class Batch:
    """Clean latents, noise and timesteps of one step, on the model's device.

    x0, noise: (B, C, h, w) at the UNet's scale; t: (B,); index: picture of each row, (B,);
    prompt: training prompt of each row, (B,); mirrored: which rows are mirror images, (B,)
    prior: as many pictures of the class, to preserve it
    blanked: the same latents as x0, of the pictures without their background; chance: a number in
        0..1 for each row, by which a method may choose between x0 and blanked
    """

    x0: Tensor
    noise: Tensor
    t: Tensor
    index: Tensor
    prompt: Tensor
    mirrored: Tensor | None = None
    prior: "Batch | None" = None
    blanked: Tensor | None = None
    chance: Tensor | None = None


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
    device, scaled = backbone.device, backbone.denoiser.scale_latents
    batch = Batch(scaled(latents.to(device)), noise.to(device), t, index, prompt, mirrored)
    if pictures.mirrored is None:
        batch = replace(batch, mirrored=torch.zeros_like(mirrored))
    if pictures.prior is not None:
        batch = replace(batch, prior=draw_batch(pictures.prior, backbone, size, 1, generator))
    if pictures.views is not None and pictures.views.blanked is not None:
        blanked = pictures.views.blanked.sample(index, mirrored, generator)
        chance = torch.rand(size, generator=generator)
        batch = replace(batch, blanked=scaled(blanked.to(device)), chance=chance.to(device))
    return batch


def denoising_loss(backbone: Backbone, batch: Batch, context: Conditioning) -> Tensor:
    """L_LDM = mean ||target - prediction||^2 over the batch (Rombach et al. 2022, eq. 3)."""
    return squared_errors(backbone, batch, context).mean()


def squared_errors(
    backbone: Backbone,
    batch: Batch,
    context: Conditioning,
    attention: Mapping[Place, Replace] | None = None,
) -> Tensor:
    """(target - prediction)^2, (B, C, h, w).

    attention: what takes the place of blocks' cross attention
    """
    prediction = backbone.denoiser.predict(batch.x0, batch.noise, batch.t, context, attention)
    target = backbone.denoiser.target(batch.x0, batch.noise, batch.t)
    return mse_loss(prediction, target, reduction="none")


def with_prior(
    backbone: Backbone,
    batch: Batch,
    context: Conditioning,
    prior_context: Conditioning,
    prior_weight: float,
) -> dict[str, Tensor]:
    """L_LDM and the weighted loss of the class pictures, from one pass of the UNet (Kumari et al.
    2023, section 3.2). prior_context: of one prompt. Without class pictures the first term alone.
    """
    prior = batch.prior
    if prior is None:
        return {"denoising": denoising_loss(backbone, batch, context)}
    both = Batch(
        *(torch.cat([getattr(b, name) for b in (batch, prior)]) for name in ("x0", "noise", "t")),
        index=batch.index,
        prompt=batch.prompt,
    )
    contexts = Conditioning.cat([context, prior_context.expand(len(prior.t))])
    subject, other = squared_errors(backbone, both, contexts).split([len(batch.t), len(prior.t)])
    return {"denoising": subject.mean(), "prior": prior_weight * other.mean()}
