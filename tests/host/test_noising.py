"""Noise levels and predictions, against the host's own formulas."""

import pytest
import torch
from personalize.concepts.errors import BaseModelError
from personalize.host.noising import Epsilon, Velocity, discrete_noising

pytestmark = pytest.mark.host


@pytest.fixture
def sampling(tiny):
    return tiny.model.get_model_object("model_sampling")


@pytest.fixture
def noising(sampling):
    return discrete_noising(sampling)


def test_the_kind_is_the_models(tiny, noising):
    assert type(noising) is (Velocity if tiny.kind == "sd2v" else Epsilon)
    assert noising.timesteps == 1000


def test_latents_are_noised_and_denoised_as_the_host_does(sampling, noising):
    generator = torch.Generator().manual_seed(0)
    x0, noise, output = (torch.randn(3, 4, 2, 2, generator=generator) for _ in range(3))
    sigma = noising.sigmas(torch.tensor([100, 500, 999]))
    assert torch.equal(sigma, sampling.sigmas[[100, 500, 999]])
    x = noising.noisy(x0, noise, sigma)
    assert torch.allclose(x, sampling.noise_scaling(sigma.view(-1, 1, 1, 1), noise, x0))
    denoised = sampling.calculate_denoised(sigma, output, x)
    again = noising.prediction(x, denoised, sigma)
    assert torch.allclose(again, output, atol=1e-4)


def test_who_predicts_the_target_finds_the_clean_latents(sampling, noising):
    generator = torch.Generator().manual_seed(1)
    x0, noise = (torch.randn(3, 4, 2, 2, generator=generator) for _ in range(2))
    sigma = noising.sigmas(torch.tensor([10, 400, 990]))
    x, target = noising.noisy(x0, noise, sigma), noising.target(x0, noise, sigma)
    assert torch.allclose(sampling.calculate_denoised(sigma, target, x), x0, atol=1e-4)


def test_other_samplings_are_refused(tiny_sd1):
    from comfy import model_sampling

    class Flow(model_sampling.ModelSamplingDiscreteFlow, model_sampling.CONST):
        pass

    with pytest.raises(BaseModelError, match="samples with ModelSamplingDiscreteFlow, CONST"):
        discrete_noising(Flow())
