"""Single passes of a MODEL over a picture with noise, with all that sampling brings along.

They go through the host's guider, so that hooks, wrappers and patches of the MODEL and of the
conditioning act as they do when a picture is drawn.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider, Sampler
from torch import Generator, Tensor

from .progress import stop_if_cancelled


class _Passes(Sampler):
    """Evaluates the model once a noise level, each on the same picture, and changes nothing."""

    def __init__(self, sampling: Any, on_pass: Callable[[int], None]) -> None:
        self._sampling, self._on_pass = sampling, on_pass

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Any = None,
        denoise_mask: Any = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        for number, sigma in enumerate(sigmas):
            stop_if_cancelled()
            noised = self._sampling.noise_scaling(sigma, noise, latent_image, False)
            model_wrap(noised, sigma.expand(len(noised)), **extra_args)
            self._on_pass(number + 1)
        return latent_image


@torch.inference_mode()  # the host moves weights, and must do so in inference mode
def noisy_passes(
    model: ModelPatcher,
    positive: Any,
    latent: Tensor,
    *,
    percents: Sequence[float],
    seed: int = 0,
    on_pass: Callable[[int], None] = lambda count: None,
) -> None:
    """Predict the noise in a picture at some noise levels, for whoever listens inside the MODEL.

    latent: (B, C, h, w) of a finished picture, as VAE Encode gives it
    percents: noise levels as parts of the sampling, 0 for noise alone and 1 for the picture
    """
    sampling: Any = model.get_model_object("model_sampling")
    sigmas = torch.tensor([sigma_at(model, percent) for percent in percents])
    guider = CFGGuider(model)
    guider.set_conds(positive, positive)
    guider.set_cfg(1.0)  # the host then leaves the negative prompt out
    noise = torch.randn(latent.shape, generator=Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        guider.sample(
            noise, latent, _Passes(sampling, on_pass), sigmas, disable_pbar=True, seed=seed
        )


def sigma_at(model: ModelPatcher, percent: float) -> float:
    """The noise level at a part of the sampling, 0 for noise alone and 1 for the picture."""
    sampling: Any = model.get_model_object("model_sampling")
    return float(sampling.percent_to_sigma(percent))
