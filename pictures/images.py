"""Pictures as the host has them, IMAGE: any sizes in, checked single ones or squares out."""

from collections.abc import Iterable
from itertools import islice

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate

from ..concepts.errors import PictureError, shown
from ..concepts.tensors import is_finite

MIN_RESOLUTION = 64  # pixels of the shorter side of a picture that anything is learned from
COPY_SIDE, MOST_COPIES = 192, 6  # pixels and number of the pictures on a contact sheet


def square_pictures(images: Iterable[Tensor], size: int, what: str = "Picture") -> Tensor:
    """Centre crops of all pictures at size x size pixels.

    images: batches (B, H, W, C) or single pictures (H, W, C), C = 1, 3 or 4, values in 0..1, of
        any sizes; transparent pixels become white
    what: how an error calls one of them
    Returns (N, size, size, 3), fp32, CPU. Raises PictureError for what is no picture.
    """
    squares = [_square(p, size, f"{what} {n + 1}") for n, p in enumerate(single_pictures(images))]
    if not squares:
        raise PictureError("There is no picture to learn from. Connect 1 to 6 pictures of it.")
    return torch.stack(squares)


def small_copies(images: Iterable[Tensor]) -> Tensor:
    """Centre crops of the first pictures, to show what was learned.

    images: as for `square_pictures`, but of any size. Returns (N, COPY_SIDE, COPY_SIDE, 3), uint8.
    """
    pictures = islice(single_pictures(images), MOST_COPIES)
    return torch.stack([(_resized(p, COPY_SIDE) * 255).round().byte() for p in pictures])


def single_pictures(images: Iterable[Tensor]) -> Iterable[Tensor]:
    """Every picture of the batches, (H, W, C); raise PictureError for what is no picture."""
    for batch in images:
        if not torch.is_tensor(batch):  # the host lets the API write a value in a socket's place
            raise PictureError(f"Expected pictures, got '{shown(batch)}'. Connect an IMAGE.")
        if batch.ndim == 3 and batch.shape[-1] in (1, 3, 4):
            batch = batch[None]
        if batch.ndim != 4 or batch.shape[-1] not in (1, 3, 4):
            raise PictureError(
                "Expected pictures of shape (batch, height, width, channels), got "
                f"{tuple(batch.shape)}. Is it a mask? Connect an IMAGE."
            )
        yield from batch


def _square(picture: Tensor, size: int, name: str) -> Tensor:
    check_picture(picture, size, name)
    return _resized(picture, size)


def check_picture(picture: Tensor, size: int, name: str) -> None:
    """Raise PictureError for a picture (H, W, C) that no training should see."""
    height, width = picture.shape[:2]
    if min(height, width) < MIN_RESOLUTION:
        raise PictureError(
            f"{name} has {width} x {height} pixels. Expected at least "
            f"{MIN_RESOLUTION} x {MIN_RESOLUTION}, better {size} x {size}: remove it or find a "
            "larger one."
        )
    check_finite(picture, name)


def check_finite(picture: Tensor, name: str) -> None:
    """Raise PictureError for a picture with pixels that are no numbers."""
    if not is_finite(picture):
        raise PictureError(
            f"{name} holds NaN or infinite pixels. The node that made it failed: load "
            "the picture again or remove it."
        )


def centre_square(picture: Tensor) -> Tensor:
    """The middle of a picture or mask (H, W, ...), as large as fits, (side, side, ...)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def _resized(picture: Tensor, size: int) -> Tensor:
    """The centre square, (size, size, 3), fp32, CPU."""
    pixels = centre_square(plain_pixels(picture))
    if len(pixels) == size:
        return pixels.contiguous()
    pixels = rearrange(pixels, "h w c -> 1 c h w")
    pixels = interpolate(pixels, (size, size), mode="bicubic", antialias=True)
    return rearrange(pixels, "1 c h w -> h w c").clamp(0, 1).contiguous()


def plain_pixels(picture: Tensor) -> Tensor:
    """A copy as (H, W, 3), fp32 in 0..1, CPU; transparent pixels become white."""
    with torch.inference_mode(False):
        return _rgb_on_white(picture.detach().to("cpu", torch.float32, copy=True).clamp(0, 1))


def opacity(picture: Tensor) -> Tensor | None:
    """How opaque the pixels of a picture (H, W, C) are, (H, W), fp32 in 0..1, CPU; None where all
    of them are."""
    if picture.shape[-1] != 4:
        return None
    with torch.inference_mode(False):
        alpha = picture.detach()[..., 3].to("cpu", torch.float32, copy=True).clamp(0, 1)
    return None if bool((alpha == 1).all()) else alpha


def _rgb_on_white(pixels: Tensor) -> Tensor:
    if pixels.shape[-1] == 1:
        return pixels.expand(*pixels.shape[:2], 3).contiguous()
    if pixels.shape[-1] == 4:
        colour, alpha = pixels[..., :3], pixels[..., 3:]
        return colour * alpha + (1 - alpha)
    return pixels.contiguous()
