"""Zoomed pictures: their prompts, where they are seen, and a loss on that alone."""

import pytest
import torch
from personalize.training.zoom import (
    GREY,
    ZOOMS,
    uniform,
    visible_mean,
    zoomed,
    zoomed_picture,
)

pytestmark = pytest.mark.host
SIDE = 96


@pytest.mark.parametrize(
    ("template", "zoom", "text"),
    [
        ("a photo of a {}", "", "a photo of a {}"),
        ("a photo of a {}", "very small", "very small photo of a {}"),
        ("the {} here", "close up", "close up {} here"),
        ("photo of a {}", "a far away", "a far away photo of a {}"),
    ],
)
def test_a_prompt_says_how_instead_of_its_article(template, zoom, text):
    assert zoomed(template, zoom) == text


def test_every_zoom_comes_and_only_small_ones_have_a_ground():
    """A white picture, so that grey is the ground and what is seen is white."""
    white, generator = torch.ones(3, SIDE, SIDE), torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        drawn, visible, number = zoomed_picture(white, SIDE, generator)
        seen.add(number)
        assert drawn.shape == (3, SIDE, SIDE) and visible.shape == (1, SIDE // 8, SIDE // 8)
        pixels = visible.repeat_interleave(8, 1).repeat_interleave(8, 2).bool().expand_as(drawn)
        assert visible.any() and (drawn[pixels] > 0.99).all()
        small = number in (1, 2)
        assert bool((drawn - GREY).abs().min() < 1e-3) == small == (not visible.all())
    assert seen == set(range(len(ZOOMS)))


def test_each_picture_counts_alike_however_little_is_seen():
    errors = torch.ones(2, 4, 2, 2)
    errors[1] = 3
    errors[1, :, 1] = 100  # not seen
    visible = torch.ones(2, 1, 2, 2)
    visible[1, :, 1] = 0
    assert visible_mean(errors, visible).item() == 2
    assert visible_mean(errors[:1], visible[:1]) == errors[:1].mean()


def test_random_numbers_are_the_generators():
    one, same = (uniform(torch.Generator().manual_seed(4)) for _ in range(2))
    assert one == same and 0 <= one < 1
