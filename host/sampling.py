"""Plain text-to-image with the host's sampler, for previews, class pictures and comparisons."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy import sample as host_sample
from comfy.model_patcher import ModelPatcher
from comfy.samplers import KSampler
from comfy.sd import CLIP, VAE
from torch import Generator, Tensor

from .progress import stop_if_cancelled

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
    count: int = 1,
    **settings: Any,
) -> Tensor:
    """Pictures (count, size, size, 3) in 0..1, fp32, CPU; the global random state is left alone.

    settings: of `text_to_latents`. A cancel of the user takes effect within one step.
    """
    empty = _empty_latents(model, count, size)
    return _decoded(vae, text_to_latents(model, clip, prompt, empty, **settings))


@torch.inference_mode()
def texts_to_images(
    model: ModelPatcher,
    clip: CLIP,
    vae: VAE,
    prompts: Sequence[str],
    size: int,
    *,
    seed: int = 0,
    **settings: Any,
) -> Tensor:
    """A picture of each prompt, drawn as one batch: (prompts, size, size, 3) in 0..1, fp32, CPU.

    settings: of `sampled`. Picture k is that of `text_to_image` with seed + k, within rounding,
    where prompts are equally long and the base has no pooled text.
    """
    empty = _empty_latents(model, len(prompts), size)
    noise = torch.cat([_noise(empty[:1], seed + k) for k in range(len(prompts))])
    encoded = [encode_prompt(clip, prompt)[0] for prompt in prompts]
    positive = [[torch.cat([rows for rows, _ in encoded]), encoded[0][1]]]
    negative = encode_prompt(clip, "")
    return _decoded(vae, sampled(model, noise, positive, negative, empty, seed=seed, **settings))


@torch.inference_mode()
def text_to_latents(
    model: ModelPatcher,
    clip: CLIP,
    prompt: str,
    empty: Tensor,
    *,
    negative: str = "",
    seed: int = 0,
    **settings: Any,
) -> Tensor:
    """Latents of the size of an empty latent (B, C, h, w); the global random state is left alone.

    settings: of `sampled`. A cancel of the user takes effect within one step.
    """
    positive, negative_cond = (encode_prompt(clip, text) for text in (prompt, negative))
    empty = host_sample.fix_empty_latent_channels(model, empty)
    noise = _noise(empty, seed)
    return sampled(model, noise, positive, negative_cond, empty, seed=seed, **settings)


@torch.inference_mode()
def sampled(
    model: ModelPatcher,
    noise: Tensor,
    positive: Any,
    negative: Any,
    empty: Tensor,
    *,
    seed: int,
    steps: int = 20,
    cfg: float = 7.0,
    sampler: str = "euler",
    scheduler: str = "normal",
    on_step: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """Latents (B, C, h, w) from noise and conditionings, as KSampler gives them.

    seed: of samplers that add noise. The global random state is left alone.
    """

    def callback(step: int, *_: Any) -> None:
        stop_if_cancelled()
        on_step(step + 1)

    with torch.random.fork_rng(devices=[]):
        return host_sample.sample(
            model,
            noise,
            steps,
            cfg,
            sampler,
            scheduler,
            positive,
            negative,
            empty,
            callback=callback,
            disable_pbar=True,
            seed=seed,
        )


@torch.inference_mode()
def encode_prompt(clip: CLIP, text: str) -> Any:
    """The conditioning of a prompt, as CLIP Text Encode gives it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text), show_pbar=False)


def _empty_latents(model: ModelPatcher, count: int, size: int) -> Tensor:
    latent_format: Any = model.get_model_object("latent_format")
    return torch.zeros(count, latent_format.latent_channels, size // 8, size // 8)


def _noise(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=Generator().manual_seed(seed))


def _decoded(vae: VAE, latents: Tensor) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        return vae.decode(latents).float().cpu()
