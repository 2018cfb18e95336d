"""Pictures of any kind become squares."""

import pytest
import torch
from personalize.concepts.errors import PictureError
from personalize.pictures.images import small_copies, square_pictures


def gradient_picture(height, width):
    """Red grows to the right, green downwards."""
    rows, columns = torch.meshgrid(
        torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
    )
    return torch.stack([columns, rows, torch.zeros_like(rows)], dim=-1)


@pytest.mark.parametrize("shape", [(64, 64), (100, 300), (301, 97), (1000, 640)])
@pytest.mark.parametrize("size", [64, 128])
def test_the_centre_square_is_kept(shape, size):
    height, width = shape
    (square,) = square_pictures([gradient_picture(height, width)], size)
    assert square.shape == (size, size, 3)
    part = min(height, width) / torch.tensor([width, height])
    for channel, axis in ((0, 0), (1, 1)):
        low, high = 0.5 - part[channel] / 2, 0.5 + part[channel] / 2
        line = square[..., channel].mean(dim=axis)
        assert line[0] == pytest.approx(low.item(), abs=0.02)
        assert line[-1] == pytest.approx(high.item(), abs=0.02)


def test_batches_and_single_pictures_of_many_sizes_are_one_stack():
    images = [torch.rand(2, 70, 90, 3), torch.rand(64, 64, 3), torch.rand(1, 200, 64, 4)]
    assert square_pictures(images, 64).shape == (4, 64, 64, 3)


def test_small_copies_are_of_the_first_six():
    images = [torch.rand(5, 30, 90, 3), torch.ones(3, 300, 300, 4)]
    copies = small_copies(iter(images))
    assert copies.shape == (6, 192, 192, 3) and copies.dtype == torch.uint8
    assert (copies[5] == 255).all() and not (copies[4] == 255).all()


def test_a_picture_of_the_right_size_is_not_resampled():
    picture = torch.rand(64, 64, 3)
    assert torch.equal(square_pictures([picture], 64)[0], picture)


def test_transparent_pixels_become_white_and_grey_becomes_rgb():
    clear = torch.cat([torch.zeros(64, 64, 3), torch.zeros(64, 64, 1)], dim=-1)
    assert torch.equal(square_pictures([clear], 64)[0], torch.ones(64, 64, 3))
    half = torch.cat([torch.zeros(64, 64, 3), torch.full((64, 64, 1), 0.5)], dim=-1)
    assert torch.allclose(square_pictures([half], 64)[0], torch.full((64, 64, 3), 0.5))
    grey = torch.full((64, 64, 1), 0.3)
    assert torch.allclose(square_pictures([grey], 64)[0], torch.full((64, 64, 3), 0.3))


def with_nan():
    picture = torch.rand(64, 64, 3)
    picture[3, 4, 1] = float("nan")
    return picture


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no picture to learn from.*Connect"),
        ([torch.zeros(0, 64, 64, 3)], "no picture to learn from"),
        ([torch.rand(1, 64, 64)], "Is it a mask"),
        ([torch.rand(64, 64)], "Is it a mask"),
        ([torch.rand(1, 64, 64, 2)], "Expected pictures of shape"),
        ([torch.rand(64, 64, 3), torch.rand(63, 200, 3)], "Picture 2 has 200 x 63 pixels.*64 x 64"),
        ([with_nan()], "Picture 1 holds NaN"),
        ("x", "Expected pictures, got 'x'. Connect an IMAGE."),
    ],
)
def test_what_is_no_picture_is_refused(images, message):
    with pytest.raises(PictureError, match=message):
        square_pictures(images, 64)


def test_the_pictures_given_are_unchanged():
    picture = torch.rand(1, 80, 64, 4)
    before = picture.clone()
    square_pictures([picture], 64)
    assert torch.equal(picture, before)
