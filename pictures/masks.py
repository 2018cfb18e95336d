"""Masks beside pictures: any that a node of the host may give, read and checked in one place."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..concepts.errors import PictureError
from .images import centre_square

_RATIO = 0.02  # by which the shapes of a mask and its picture may differ


def read_masks(masks: Iterable[Tensor], pictures: Sequence[Tensor]) -> list[Tensor]:
    """One mask for each picture, of the picture's size.

    masks: a batch or any mixture of batches (B, h, w), (B, 1, h, w), (B, h, w, C) and single masks
        (h, w); 1 on the subject, as booleans, bytes or floats; of colours, the brightness
    pictures: (H, W, C) each, of any sizes; a batch will do
    Returns N masks (H, W), fp32 in 0..1, CPU; a mask of another size but the picture's shape is
    resized. Raises PictureError for masks that cannot be about these pictures.
    """
    single = list(_single_masks(masks))
    if len(single) != len(pictures):
        raise PictureError(
            f"Expected a mask for each picture, got {len(single)} masks and {len(pictures)} "
            "pictures. Connect as many masks as pictures, or none."
        )
    return [
        _fitting(mask, picture.shape[0], picture.shape[1], n + 1)
        for n, (mask, picture) in enumerate(zip(single, pictures, strict=True))
    ]


def _single_masks(masks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Masks (h, w), fp32, CPU."""
    if torch.is_tensor(masks):
        masks = [masks]
    for batch in masks:
        with torch.inference_mode(False):
            values = batch.detach().to("cpu", torch.float32, copy=True)
        if batch.dtype == torch.uint8:
            values /= 255
        if values.ndim == 2:
            values = values[None]
        elif values.ndim == 4 and values.shape[1] == 1:
            values = values[:, 0]
        elif values.ndim == 4 and values.shape[-1] in (1, 3, 4):
            values = values[..., :3].mean(dim=-1)
        if values.ndim != 3:
            raise PictureError(
                f"Expected masks of shape (batch, height, width), got {tuple(batch.shape)}. "
                "Connect a MASK."
            )
        yield from values


def _fitting(mask: Tensor, height: int, width: int, number: int) -> Tensor:
    h, w = mask.shape
    if not torch.isfinite(mask).all():
        raise PictureError(
            f"Mask {number} holds NaN or infinite values. The node that made it failed: make it "
            "again."
        )
    if not (mask > 0).any():
        raise PictureError(
            f"Mask {number} ({w}x{h}) is empty: nothing in it is marked as the subject. Paint or "
            "segment the subject white, or leave the masks unconnected to use the whole picture."
        )
    if not same_shape((h, w), (height, width)):
        raise PictureError(
            f"Mask {number} has {w}x{h} pixels, but its picture has {width}x{height}, which is "
            "another shape. Make the mask from this very picture."
        )
    if (h, w) != (height, width):
        mask = interpolate(mask[None, None], (height, width), mode="nearest")[0, 0]
    return mask.clamp(0, 1)


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) are one shape, but for the rounding of the smaller one."""
    (h, w), (height, width) = sorted((size, other))
    return abs(w * height / (h * width) - 1) <= _RATIO or abs(w - h * width / height) < 1


def square_masks(masks: Iterable[Tensor], pictures: Sequence[Tensor], size: int) -> Tensor:
    """The masks cropped and resized as their pictures are for training, (N, size, size).

    Raises PictureError for masks that cannot be about these pictures, and for one that marks
    nothing in the centre square.
    """
    whole = read_masks(masks, pictures)
    return torch.stack([_centre_square(mask, size, n + 1) for n, mask in enumerate(whole)])


def _centre_square(mask: Tensor, size: int, number: int) -> Tensor:
    square = centre_square(mask)
    if len(square) != size:
        square = interpolate(square[None, None], (size, size), mode="bilinear", antialias=True)
        square = square[0, 0].clamp(0, 1)
    if not (square > 0.5).any():
        raise PictureError(
            f"Mask {number} is empty within the centre square of its picture, to which pictures "
            "are cropped. Crop picture and mask around the subject."
        )
    return square.contiguous()
