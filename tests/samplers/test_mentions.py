"""Rows that name a concept, found by their vectors where no key tells them."""

import pytest
import torch
from personalize.samplers.mentions import REMEMBERED, NamedRows

pytestmark = pytest.mark.host


def vectors(count, seed, width=64):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_remembered_vectors_are_found_scaled_and_rounded():
    named, known = NamedRows(), vectors(2, 0)
    named.remember(known)
    text = vectors(6, 1)
    text[1], text[4] = 1.3 * known[0], known[1].bfloat16().float()
    assert named.find(text[None]) == (1, 4)


def test_others_and_those_of_another_width_are_not():
    named = NamedRows()
    assert named.find(vectors(3, 0)[None]) == ()
    named.remember(vectors(2, 0))
    assert named.find(vectors(6, 1)[None]) == ()
    assert named.find(vectors(3, 0, width=32)[None]) == ()


def test_the_latest_prompts_are_remembered_each_once():
    named = NamedRows()
    for seed in (0, *range(REMEMBERED), 0):  # the first is used again, so it is not the oldest
        named.remember(vectors(1, seed))
    named.remember(vectors(1, REMEMBERED))
    found = [bool(named.find(vectors(1, seed)[None])) for seed in range(REMEMBERED + 1)]
    assert found == [True, False, *[True] * (REMEMBERED - 1)]
