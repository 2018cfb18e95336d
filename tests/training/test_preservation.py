"""Losses with class pictures: each row with its prompt, each half with its weight."""

from types import SimpleNamespace

import pytest
import torch
from personalize.host.conditioning import Conditioning
from personalize.training.batch import Batch
from personalize.training.preservation import BatchWithPrior, losses_with_prior, mean_error

pytestmark = pytest.mark.host


def rows(count, prompt=None):
    zeros = torch.zeros(count, 4, 2, 2)
    numbers = torch.zeros(count, dtype=torch.long)
    return Batch(zeros, zeros, numbers, numbers, numbers if prompt is None else prompt)


def telling(seen):
    """A backbone whose error in each row is the square of what its prompt says."""

    def predict(x0, noise, t, context, attention):
        seen.append(context.rows[:, 0, 0].tolist())
        return context.rows[:, :1, :1, None].expand(-1, 4, 2, 2)

    denoiser = SimpleNamespace(predict=predict, target=lambda x0, noise, t: torch.zeros_like(x0))
    return SimpleNamespace(denoiser=denoiser)


def context(*values):
    return Conditioning(torch.tensor(values).view(-1, 1, 1).float())


def test_both_halves_go_through_the_unet_at_once_with_their_prompts():
    seen = []
    prior = rows(2, prompt=torch.tensor([1, 0]))
    batch = BatchWithPrior(**vars(rows(2)), prior=prior)
    terms = losses_with_prior(
        telling(seen), batch, context(1, 3), prior_context=context(5, 7), prior_weight=0.5
    )
    assert seen == [[1, 3, 7, 5]]
    assert terms == {"denoising": (1 + 9) / 2, "prior": 0.5 * (49 + 25) / 2}


def test_without_class_pictures_one_term_is_left():
    seen = []
    batch = BatchWithPrior(**vars(rows(2)))
    terms = losses_with_prior(
        telling(seen), batch, context(1, 3), prior_context=context(5), prior_weight=1.0
    )
    assert terms == {"denoising": 5} and seen == [[1, 3]]


def test_a_mean_is_over_what_is_visible():
    errors, visible = torch.ones(1, 4, 2, 2), torch.ones(1, 1, 2, 2)
    errors[..., 1], visible[..., 1] = 9, 0
    assert mean_error(errors, visible) == 1 and mean_error(errors, None) == 5
