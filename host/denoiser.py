"""The host's UNet as a differentiable function, and the noise schedule it was trained with.

The host writes a noisy latent as x = x_0 + sigma * noise; the papers' x_t is x / sqrt(sigma^2 + 1).
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch
from comfy import model_sampling
from comfy.ldm.modules.attention import attention_pytorch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..concepts.errors import BaseModelError
from .attention import Place, Replace


class Prediction(str, Enum):
    EPSILON = "epsilon"
    VELOCITY = "velocity"


class Denoiser:
    """Noise prediction by the user's MODEL with all its patches, inside `Backbone.session`."""

    def __init__(self, model: ModelPatcher) -> None:
        self.model = model
        self._sampling: Any = model.get_model_object("model_sampling")
        self.prediction = _prediction(self._sampling)

    @property
    def device(self) -> torch.device:
        return self.model.load_device

    @property
    def timesteps(self) -> int:
        """Number of training timesteps, 1000 for Stable Diffusion."""
        return self._sampling.sigmas.shape[0]

    def sigmas(self, t: Tensor) -> Tensor:
        """Noise level of integer timesteps, (B,) -> (B,), fp32."""
        return self._sampling.sigmas[t.to(self._sampling.sigmas.device)].to(self.device).float()

    def scale_latents(self, latents: Tensor) -> Tensor:
        """VAE latents to the UNet's scale (times 0.18215 for Stable Diffusion)."""
        return self.model.model.process_latent_in(latents)

    def predict(
        self,
        x0: Tensor,
        noise: Tensor,
        t: Tensor,
        context: Tensor,
        attention: Mapping[Place, Replace] | None = None,
    ) -> Tensor:
        """The UNet's epsilon or velocity for clean latents, noise and timesteps.

        x0, noise: (B, C, h, w) at the UNet's scale; t: (B,) integers; context: (B, 77 n, width)
        attention: what takes the place of blocks' cross attention, by `patch_place`
        """
        sigma = self.sigmas(t)
        column = sigma.view(-1, 1, 1, 1)
        x = x0 + column * noise
        options = self._transformer_options(sigma, attention or {})
        denoised = self.model.model.apply_model(
            x, sigma, c_crossattn=context, transformer_options=options
        )
        if self.prediction is Prediction.EPSILON:
            return (x - denoised) / column
        return (x / (column**2 + 1) - denoised) * (column**2 + 1).sqrt() / column

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What `predict` should return: the noise, or the velocity sqrt(a) noise - sqrt(1-a) x0."""
        if self.prediction is Prediction.EPSILON:
            return noise
        sigma = self.sigmas(t).view(-1, 1, 1, 1)
        return (noise - sigma * x0) / (sigma**2 + 1).sqrt()

    def _transformer_options(
        self, sigma: Tensor, attention: Mapping[Place, Replace]
    ) -> dict[str, Any]:
        options = dict(self.model.model_options.get("transformer_options", {}))
        if attention:
            replaced = options.get("patches_replace", {})
            own = {**replaced.get("attn2", {}), **attention}
            options["patches_replace"] = {**replaced, "attn2": own}
        # not every attention kernel of the host has a backward pass; torch's own has
        options["optimized_attention_override"] = _differentiable_attention
        options["cond_or_uncond"] = [0]
        options["sigmas"] = sigma
        return options


def _differentiable_attention(_chosen: Any, *args: Any, **kwargs: Any) -> Tensor:
    return attention_pytorch(*args, **kwargs)


def _prediction(sampling: Any) -> Prediction:
    if isinstance(sampling, model_sampling.ModelSamplingDiscrete):
        formula = getattr(type(sampling), "calculate_denoised", None)
        if formula is model_sampling.EPS.calculate_denoised:
            return Prediction.EPSILON
        if formula is model_sampling.V_PREDICTION.calculate_denoised:
            return Prediction.VELOCITY
    kinds = ", ".join(kind.__name__ for kind in type(sampling).__bases__)
    raise BaseModelError(
        f"This MODEL samples with {kinds}. Expected epsilon or v-prediction on the timesteps of "
        "Stable Diffusion: remove the node that changes the model's sampling before training."
    )
