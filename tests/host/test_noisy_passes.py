"""Passes over a noisy picture: at which levels, with which noise, and through the host's guider."""

import pytest
import torch
from personalize.host import noisy_passes as module
from personalize.host.noisy_passes import noisy_passes, sigma_at

pytestmark = pytest.mark.host

LATENT = torch.full((2, 4, 3, 3), 5.0)


class Model:
    """A MODEL whose noise level is 10 at the start and 0 in the end."""

    def get_model_object(self, name):
        assert name == "model_sampling"
        return self

    def percent_to_sigma(self, percent):
        return 10 * (1 - percent)

    def noise_scaling(self, sigma, noise, latent, max_denoise):
        assert not max_denoise
        return latent + sigma * noise


@pytest.fixture
def passes(monkeypatch):
    """What the model was called with, by guiders that sample as the host's does."""
    seen = []

    class Guider:
        def __init__(self, model):
            self.model = model

        def set_conds(self, positive, negative):
            assert positive is negative == ["the prompt"]

        def set_cfg(self, cfg):
            assert cfg == 1.0

        def sample(self, noise, latent, sampler, sigmas, disable_pbar, seed):
            torch.rand(1)  # as samplers and hooks may
            result = sampler.sample(self, sigmas, {"model_options": {}}, None, noise, latent)
            assert result is latent

        def __call__(self, x, sigma, model_options):
            seen.append((x, sigma.tolist()))

    monkeypatch.setattr(module, "CFGGuider", Guider)
    return seen


def run(percents=(0.0, 0.5, 0.8), **more):
    noisy_passes(Model(), ["the prompt"], LATENT, percents=percents, **more)


def test_one_pass_for_each_level_on_the_same_picture_and_noise(passes):
    counts = []
    run(seed=3, on_pass=counts.append)
    levels = [10.0, 5.0, 2.0]
    assert [sigmas for _, sigmas in passes] == [pytest.approx([level] * 2) for level in levels]
    assert counts == [1, 2, 3]
    noise = torch.randn(LATENT.shape, generator=torch.Generator().manual_seed(3))
    for (x, _), level in zip(passes, levels, strict=True):
        assert torch.allclose(x, LATENT + level * noise, atol=1e-5)
    assert sigma_at(Model(), 0.25) == 7.5


def test_random_numbers_of_others_stay(passes):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    run()
    assert torch.equal(torch.rand(3), expected)


def test_a_cancel_ends_it_before_the_next_pass(passes, monkeypatch):
    def stop():
        if len(passes) == 2:
            raise InterruptedError

    monkeypatch.setattr(module, "stop_if_cancelled", stop)
    with pytest.raises(InterruptedError):
        run()
    assert len(passes) == 2
