"""Plain text-to-image with the host's sampler, for previews and class pictures."""

from typing import Any

import torch
from comfy import sample as host_sample
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.model_patcher import ModelPatcher
from comfy.samplers import KSampler
from comfy.sd import CLIP, VAE
from torch import Generator, Tensor

SAMPLERS: list[str] = KSampler.SAMPLERS
SCHEDULERS: list[str] = KSampler.SCHEDULERS


@torch.inference_mode()  # the host moves weights, and must do so in inference mode
def text_to_image(
    model: ModelPatcher,
    clip: CLIP,
    vae: VAE,
    prompt: str,
    size: int,
    *,
    negative: str = "",
    count: int = 1,
    seed: int = 0,
    steps: int = 20,
    cfg: float = 7.0,
    sampler: str = "euler",
    scheduler: str = "normal",
) -> Tensor:
    """Pictures (count, size, size, 3) in 0..1, fp32, CPU; the global random state is left alone.

    A cancel of the user takes effect within one step.
    """
    positive_cond = clip.encode_from_tokens_scheduled(clip.tokenize(prompt), show_pbar=False)
    negative_cond = clip.encode_from_tokens_scheduled(clip.tokenize(negative), show_pbar=False)
    latent_format: Any = model.get_model_object("latent_format")
    shape = (count, latent_format.latent_channels, size // 8, size // 8)
    noise = torch.randn(shape, generator=Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        latents = host_sample.sample(
            model,
            noise,
            steps,
            cfg,
            sampler,
            scheduler,
            positive_cond,
            negative_cond,
            torch.zeros(shape),
            callback=lambda *_: throw_exception_if_processing_interrupted(),
            disable_pbar=True,
            seed=seed,
        )
        return vae.decode(latents).float().cpu()
