"""Posteriors of pictures: sampled by the generator given, of VAEs that fit."""

from types import SimpleNamespace

import pytest
import torch
from personalize.concepts.errors import BaseModelError

pytestmark = pytest.mark.host


def test_samples_are_the_generators():
    from personalize.host.latents import LatentPosterior

    mean = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 4, 2, 2)
    posterior = LatentPosterior(mean, torch.full_like(mean, 0.5))
    index = torch.tensor([1, 1, 0])
    one, same = (posterior.sample(index, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, same) and not torch.equal(one[0], one[1])
    certain = LatentPosterior(mean, torch.zeros_like(mean))
    assert torch.equal(certain.sample(index, torch.Generator()), mean[index])


def test_a_vae_of_another_family_is_refused():
    from personalize.host.latents import encode_posterior

    with pytest.raises(BaseModelError, match="16 latent channels"):
        encode_posterior(SimpleNamespace(latent_channels=16), torch.zeros(1, 8, 8, 3))
