"""How a base model's latents are made noisy, and what its UNet predicts of them.

The host writes a noisy latent as x = x_0 + sigma * noise; the papers' x_t is x / sqrt(sigma^2 + 1).
"""

from abc import ABC, abstractmethod
from typing import Any

from comfy import model_sampling
from torch import Tensor

from ..concepts.errors import BaseModelError


class Noising(ABC):
    """Noise levels of the training timesteps, and the mathematics of one kind of prediction.

    x0, noise, x, denoised: (B, C, h, w) at the UNet's scale; sigma: (B,), fp32
    """

    def __init__(self, sampling: Any) -> None:
        self._sampling = sampling

    @property
    def timesteps(self) -> int:
        """Number of training timesteps, 1000 for Stable Diffusion."""
        return self._sampling.sigmas.shape[0]

    def sigmas(self, t: Tensor) -> Tensor:
        """Noise level of integer timesteps, (B,) -> (B,), where the host keeps its table."""
        return self._sampling.sigmas[t.to(self._sampling.sigmas.device)]

    def noisy(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """The latents x that the host denoises."""
        return x0 + column(sigma) * noise

    @abstractmethod
    def prediction(self, x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        """The UNet's own output from the denoised latents, which are what the host returns."""

    @abstractmethod
    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What the UNet should predict."""


class Epsilon(Noising):
    """The UNet predicts the noise."""

    def prediction(self, x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        return (x - denoised) / column(sigma)

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return noise


class Velocity(Noising):
    """The UNet predicts v = sqrt(a) noise - sqrt(1 - a) x_0 (Salimans and Ho 2022)."""

    def prediction(self, x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        sigma = column(sigma)
        return (x / (sigma**2 + 1) - denoised) * (sigma**2 + 1).sqrt() / sigma

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        sigma = column(sigma)
        return (noise - sigma * x0) / (sigma**2 + 1).sqrt()


def column(sigma: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1), to scale latents with."""
    return sigma.view(-1, 1, 1, 1)


_FORMULAS = {
    model_sampling.EPS.calculate_denoised: Epsilon,
    model_sampling.V_PREDICTION.calculate_denoised: Velocity,
}


def discrete_noising(sampling: Any) -> Noising:
    """Epsilon or velocity on discrete timesteps; raise BaseModelError for any other sampling.

    sampling: the MODEL's `model_sampling`. Its formula tells the kind, not its class: the host
    builds that class anew for each model, and subclasses may overwrite the formula.
    """
    if isinstance(sampling, model_sampling.ModelSamplingDiscrete):
        formula = getattr(type(sampling), "calculate_denoised", None)
        if formula in _FORMULAS:
            return _FORMULAS[formula](sampling)
    kinds = ", ".join(kind.__name__ for kind in type(sampling).__bases__)
    raise BaseModelError(
        f"This MODEL samples with {kinds}. Expected epsilon or v-prediction on the timesteps of "
        "Stable Diffusion: remove the node that changes the model's sampling before training."
    )
