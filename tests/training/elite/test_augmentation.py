"""Pictures of an ELITE training, moved at random: what stays true however they are."""

import pytest
import torch
from personalize.training.elite.augmentation import (
    STRETCH,
    blur,
    disguised,
    moved_subject,
    random_stretch,
    warped,
)

pytestmark = pytest.mark.host
SIDE = 56


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_move_changes_nothing():
    picture = torch.rand(3, SIDE, SIDE, generator=generator())
    assert torch.allclose(warped(picture, torch.eye(3), "zeros"), picture, atol=1e-5)
    assert torch.allclose(blur(torch.ones(3, 9, 9), 3), torch.ones(3, 9, 9))


def test_a_stretch_moves_its_three_points_as_far_as_it_says():
    """By at most STRETCH of the side each way; the side is 2 in these coordinates."""
    third = 2 / 3
    points = torch.tensor([[third, third, 1], [third, -third, 1], [-third, -third, 1]])
    moved = []
    for seed in range(20):
        forward = torch.linalg.inv(random_stretch(generator(seed)))
        apart = (points @ forward.T - points)[:, :2].abs()
        assert apart.max() <= 2 * STRETCH + 1e-5
        moved.append(apart.mean().item())
    assert sum(moved) / 20 == pytest.approx(STRETCH, rel=0.2)  # half of the most, in the mean


@pytest.mark.parametrize("stretch", [False, True])
def test_a_disguise_keeps_shape_and_range_and_repeats(stretch):
    picture = torch.rand(3, SIDE, SIDE, generator=generator(1))
    for seed in range(8):
        one, same = (disguised(picture, True, stretch, generator(seed)) for _ in range(2))
        assert torch.equal(one, same) and one.shape == picture.shape
        assert one.min() > -1e-5 and one.max() < 1 + 1e-5


def test_something_of_the_subject_is_always_left():
    """Even of one in a corner, which a shift would push out of the picture."""
    mask = torch.zeros(SIDE, SIDE)
    mask[:8, :8] = 1
    for seed in range(20):
        subject, on_patches = moved_subject(
            torch.ones(3, SIDE, SIDE), mask, SIDE, 16, generator(seed)
        )
        assert on_patches.shape == (1, 4, 4) and on_patches.any()
        assert subject.shape == (3, SIDE, SIDE) and subject.max() > 0.5
