"""Masks of any node are read alike, and those of other pictures are refused."""

import pytest
import torch
from personalize.concepts.errors import PersonalizeError
from personalize.pictures.masks import read_masks


def left_half(count=1, height=40, width=60):
    mask = torch.zeros(count, height, width)
    mask[..., : width // 2] = 1
    return mask


PICTURES = torch.rand(2, 40, 60, 3)


@pytest.mark.parametrize(
    "given",
    [
        left_half(2),
        [left_half(2)],
        [left_half(), left_half()],
        [left_half()[0], left_half()[0]],
        left_half(2)[:, None],
        left_half(2)[..., None],
        left_half(2)[..., None].expand(-1, -1, -1, 3),
        left_half(2) > 0,
        (left_half(2) * 255).byte(),
        left_half(2).half(),
        left_half(2) * 3 - 1,
        [left_half(1, 80, 120), left_half(1, 20, 30)],
    ],
    ids=[
        *("batch", "list of a batch", "list", "list of single ones", "channel first"),
        *("channel last", "colours", "booleans", "bytes", "half", "beyond 0..1", "other sizes"),
    ],
)
def test_every_way_of_giving_a_mask_reads_the_same(given):
    read = read_masks(given, PICTURES)
    assert [mask.dtype for mask in read] == [torch.float32] * 2
    assert all(torch.equal(mask, left_half()[0]) for mask in read)


def test_pictures_of_several_sizes():
    pictures = [torch.rand(40, 60, 3), torch.rand(30, 20, 3)]
    first, second = read_masks([left_half(), left_half(1, 60, 40)], pictures)
    assert first.shape == (40, 60) and torch.equal(second, left_half(1, 30, 20)[0])


def test_soft_masks_stay_soft_and_the_given_one_as_it_was():
    soft = torch.linspace(-0.5, 1.5, 60).expand(1, 40, 60).contiguous()
    before = soft.clone()
    (read,) = read_masks(soft, PICTURES[:1])
    assert torch.equal(read, before[0].clamp(0, 1)) and torch.equal(soft, before)
    with torch.inference_mode():
        upstream = left_half(2)
    read = read_masks(upstream, PICTURES)
    assert not any(mask.is_inference() for mask in read)


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        (left_half(), "for each picture, got 1 masks and 2 pictures"),
        ([], "got 0 masks and 2 pictures"),
        (torch.zeros(2, 40, 60), r"Mask 1 \(60x40\) is empty.*leave the masks unconnected"),
        ([left_half(), torch.zeros(1, 64, 64)], r"Mask 2 \(64x64\) is empty"),
        (left_half(2, 40, 40), "Mask 1 has 40x40 pixels, but its picture has 60x40.*this very"),
        (left_half(2) * torch.nan, "Mask 1 holds NaN"),
        (torch.rand(2, 40, 60, 7), r"got \(2, 40, 60, 7\). Connect a MASK"),
        (torch.rand(2), r"got \(2,\)"),
    ],
)
def test_masks_that_cannot_be(masks, says):
    with pytest.raises(PersonalizeError, match=says):
        read_masks(masks, PICTURES)
