"""The order of an ELITE training's subjects, and the random numbers of its examples."""

import pytest
import torch
from personalize.training.elite.examples import example_generator, order

pytestmark = pytest.mark.host


def test_an_epoch_shows_every_subject_once_in_an_order_of_its_own():
    first, again, second = order(0, 0, 50), order(0, 0, 50), order(0, 1, 50)
    assert sorted(first.tolist()) == list(range(50)) == sorted(second.tolist())
    assert torch.equal(first, again)
    assert not torch.equal(first, second) and not torch.equal(first, order(1, 0, 50))


def test_an_example_has_numbers_of_its_own_whatever_came_before():
    def draw(seed, number):
        return torch.rand(4, generator=example_generator(seed, number)).tolist()

    assert draw(0, 7) == draw(0, 7)
    assert len({tuple(draw(*key)) for key in ((0, 7), (0, 8), (1, 7), (7, 0))}) == 4
