"""Edges moved, holes filled, specks dropped."""

import pytest
import torch
from personalize.pictures.mask_edits import fill_holes, grow, largest_part


def disc(radius, side=61, at=None):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cx, cy = at or (side // 2, side // 2)
    return ((x - cx) ** 2 + (y - cy) ** 2 <= radius**2).float()


@pytest.mark.parametrize("pixels", [-8, -3, -1, 1, 3, 8])
def test_a_grown_disc_is_a_larger_disc(pixels):
    grown, expected = grow(disc(15), pixels), disc(15 + pixels)
    assert (grown - expected).abs().sum() <= 0.08 * expected.sum()
    assert grown.dtype == torch.float32 and set(grown.unique().tolist()) == {0.0, 1.0}


def test_growing_back_and_forth():
    assert torch.equal(grow(disc(15), 0), disc(15))
    square = torch.zeros(20, 20)
    square[5:15, 5:15] = 1
    assert torch.equal(grow(grow(square, -2), 2) * square, grow(grow(square, -2), 2))
    for full in (torch.ones(9, 9), torch.zeros(9, 9)):
        assert torch.equal(grow(full, 3), full) and torch.equal(grow(full, -3, 2), full)


def test_the_border_of_the_picture_is_no_edge():
    left = torch.zeros(20, 20)
    left[:, :10] = 1
    expected = torch.zeros(20, 20)
    expected[:, :7] = 1
    assert torch.equal(grow(left, -3), expected)


def test_a_soft_edge_falls_where_the_hard_one_was():
    soft = grow(disc(15), 2, soften=6)
    row = soft[30, 30:]
    assert (row.diff() <= 0).all() and row[0] == 1 and row[-1] == 0
    assert 4 <= ((row > 0) & (row < 1)).sum() <= 8
    assert torch.equal((soft >= 0.5).float(), grow(disc(15), 2))


def test_holes_up_to_a_size():
    ring = disc(20) - disc(5) + disc(1)  # a hole of 76 pixels around 5 of the subject
    ring[30, 18] = 0  # and one of a single pixel
    assert torch.equal(fill_holes(ring, 0.0), ring)
    small = fill_holes(ring, 0.01)
    assert small[30, 18] == 1 and small[30, 27] == 0
    assert torch.equal(fill_holes(ring, 1.0), disc(20))
    open_to_the_border = torch.ones(9, 9)
    open_to_the_border[4, 4:] = 0
    assert torch.equal(fill_holes(open_to_the_border, 1.0), open_to_the_border)
    assert not fill_holes(torch.zeros(5, 5), 1.0).any()


def test_the_largest_part():
    large, small = disc(9, at=(20, 20)), disc(5, at=(50, 50))
    assert torch.equal(largest_part(large + small), large)
    assert torch.equal(largest_part(large), large)
    assert not largest_part(torch.zeros(5, 5)).any()
    assert torch.equal(largest_part(torch.eye(5)), torch.eye(5))
