"""The host's UNet as a differentiable function."""

from collections.abc import Mapping
from typing import Any

import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .attention import Place, Replace
from .bases.host_base import HostBase
from .conditioning import Conditioning
from .repeatable import repeatable_attention

CELL = 8  # pixels of a picture that one latent stands for, each way


class Denoiser:
    """Noise prediction by the user's MODEL with all its patches, inside `Backbone.session`."""

    def __init__(self, model: ModelPatcher, host_base: HostBase) -> None:
        self.model, self._host_base = model, host_base
        self._noising = host_base.noising(model.get_model_object("model_sampling"))

    @property
    def device(self) -> torch.device:
        return self.model.load_device

    @property
    def timesteps(self) -> int:
        """Number of training timesteps, 1000 for Stable Diffusion."""
        return self._noising.timesteps

    def sigmas(self, t: Tensor) -> Tensor:
        """Noise level of integer timesteps, (B,) -> (B,), fp32."""
        return self._noising.sigmas(t).to(self.device).float()

    def scale_latents(self, latents: Tensor) -> Tensor:
        """VAE latents to the UNet's scale (times 0.18215 for Stable Diffusion)."""
        return self.model.model.process_latent_in(latents)

    def predict(
        self,
        x0: Tensor,
        noise: Tensor,
        t: Tensor,
        conditioning: Conditioning,
        attention: Mapping[Place, Replace] | None = None,
    ) -> Tensor:
        """The UNet's epsilon or velocity for clean latents, noise and timesteps.

        x0, noise: (B, C, h, w) at the UNet's scale; t: (B,) integers
        attention: what takes the place of blocks' cross attention, by `patch_place`
        """
        sigma = self.sigmas(t)
        x = self._noising.noisy(x0, noise, sigma)
        options = self._transformer_options(sigma, attention or {})
        height, width = x0.shape[-2] * CELL, x0.shape[-1] * CELL
        more = self._host_base.inputs(self.model, conditioning, (height, width))
        denoised = self.model.model.apply_model(
            x, sigma, c_crossattn=conditioning.rows, transformer_options=options, **more
        )
        return self._noising.prediction(x, denoised, sigma)

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What `predict` should return, such as the noise."""
        return self._noising.target(x0, noise, self.sigmas(t))

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
    return _attention(*args, **kwargs)


_attention = repeatable_attention(attention_pytorch)
