"""A strength has exact ends, and each part moves smoothly between and beyond them."""

import math

import pytest
import torch
from personalize.concepts.errors import PersonalizeError
from personalize.samplers.strength import Strength


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
def test_numbers_that_are_no_strength_are_refused(value):
    with pytest.raises(PersonalizeError, match=f"strength of 0 or more, such as 0.8, got {value}"):
        Strength(value)


@pytest.mark.parametrize(
    ("value", "is_zero", "is_one"),
    [
        (0, True, False),
        (0.0, True, False),
        (1, False, True),
        (1e-9, False, False),
        (3, False, False),
    ],
)
def test_only_the_ends_are_exact(value, is_zero, is_one):
    strength = Strength(value)
    assert (strength.is_zero, strength.is_one) == (is_zero, is_one)


def test_encodings_are_blended_in_a_line():
    plain, learned = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])
    assert torch.equal(Strength(0).blended(plain, learned), plain)
    assert torch.equal(Strength(0.5).blended(plain, learned), torch.tensor([2.0, 0.0]))
    assert torch.equal(Strength(2).blended(plain, learned), torch.tensor([5.0, -6.0]))


def test_residual_columns_are_weighed_before_the_softmax():
    """A column of logit x and strength s has s exp(x) of the attention, before it is normalised."""
    assert Strength(1).logit_bias(0.5) == 0.5
    for value in (0.25, 3.0):
        weight = math.exp(Strength(value).logit_bias(0.5))
        assert weight == pytest.approx(value * math.exp(0.5))


def test_weights_are_multiplied():
    assert Strength(0.5).scaled() == 0.5
    assert Strength(0.5).scaled(0.8) == pytest.approx(0.4)
