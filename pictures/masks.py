"""Masks beside pictures: any that a node of the host may give, read and checked in one place."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..concepts.errors import PictureError, shown
from ..concepts.tensors import is_finite
from .images import centre_square, opacity

_RATIO = 0.02  # by which the shapes of a mask and its picture may differ
_MOST_OF_BORDER, _LITTLE_OF_MIDDLE = 0.5, 0.25  # shares of a mask that marks the background
_WHOLE_BORDER, _SPECK = 0.9, 0.02  # of the border, and of the picture

Warn = Callable[[str], None]


class MaskMarks(str, Enum):
    """What is white in a mask. AUTO: the subject, unless it looks like the background."""

    AUTO = "auto"
    SUBJECT = "subject"
    BACKGROUND = "background"


def read_masks(
    masks: Iterable[Tensor],
    pictures: Sequence[Tensor],
    marks: MaskMarks = MaskMarks.AUTO,
    warn: Warn = logging.warning,
) -> list[Tensor]:
    """One mask for each picture, 1 on the subject, of the picture's size.

    masks: a batch or any mixture of batches (B, h, w), (B, 1, h, w), (B, h, w, C) and single masks
        (h, w), as booleans, bytes or floats; of colours, the brightness. None at all: what is
        opaque in the pictures, if each has something transparent
    pictures: (H, W, C) each, of any sizes; a batch will do
    warn: told of every mask that AUTO turned over
    Returns N masks (H, W), fp32 in 0..1, CPU; a mask of another size but the picture's shape is
    resized. Raises PictureError for masks that cannot be about these pictures.
    """
    single = list(_single_masks(masks))
    if not single and has_own_masks(pictures):
        return [_own_mask(picture, n + 1) for n, picture in enumerate(pictures)]
    if len(single) != len(pictures):
        raise PictureError(
            f"Expected a mask for each picture, got {len(single)} masks and {len(pictures)} "
            "pictures. Connect as many masks as pictures, or none."
        )
    read = []
    for n, (mask, picture) in enumerate(zip(single, pictures, strict=True)):
        fitting = _fitting(mask, picture.shape[0], picture.shape[1], n + 1)
        read.append(on_subject(fitting, f"Mask {n + 1}", marks, warn))
    return read


def has_own_masks(pictures: Sequence[Tensor]) -> bool:
    """Whether all pictures (H, W, C), one or more, are cut-outs with transparent pixels."""
    return len(pictures) > 0 and all(opacity(picture) is not None for picture in pictures)


def _own_mask(picture: Tensor, number: int) -> Tensor:
    mask = opacity(picture)
    if mask is None or not mask.any():
        raise PictureError(
            f"Nothing in picture {number} is opaque. Connect the picture before it was cut out, or "
            "remove it."
        )
    return mask


def on_subject(mask: Tensor, name: str, marks: MaskMarks, warn: Warn) -> Tensor:
    """A mask (H, W) in 0..1 as it is, or turned over where it marks the background.

    The host's Load Image gives as MASK what is transparent: of a cut-out, all but the subject.
    """
    if marks is MaskMarks.SUBJECT or (marks is MaskMarks.AUTO and not _is_of_background(mask)):
        return mask
    if marks is MaskMarks.AUTO:
        warn(
            f"{name} is white along the border and not in the middle, as Load Image gives it for a "
            "cut-out, so it is turned over: what is black is taken for the subject. If white is "
            "the subject, set mask_marks to subject."
        )
    turned = 1 - mask
    if not (turned > 0).any():
        raise PictureError(
            f"{name} marks the whole picture as background. Set mask_marks to subject if white is "
            "the subject."
        )
    return turned


def _is_of_background(mask: Tensor) -> bool:
    """Whether a mask looks like all around a subject: it covers the border, and not the middle.

    Of a portrait the subject reaches the border too, so that half of it is enough where the middle
    is free. A mask with the whole border may cover a part of the middle, if its hole is no speck.
    """
    height, width = mask.shape
    edges = torch.cat([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    rows, columns = (slice(n // 3, max(n - n // 3, n // 3 + 1)) for n in (height, width))
    border, middle = edges.mean().item(), mask[rows, columns].mean().item()
    if border >= _WHOLE_BORDER:
        return 1 - mask.mean().item() >= _SPECK
    return border >= _MOST_OF_BORDER and middle <= _LITTLE_OF_MIDDLE


def _single_masks(masks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Masks (h, w), fp32, CPU."""
    if torch.is_tensor(masks):
        masks = [masks]
    for batch in masks:
        if not torch.is_tensor(batch):  # as for pictures
            raise PictureError(f"Expected masks, got '{shown(batch)}'. Connect a MASK.")
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
    if not is_finite(mask):
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


def square_masks(
    masks: Iterable[Tensor],
    pictures: Sequence[Tensor],
    size: int,
    *,
    marks: MaskMarks = MaskMarks.AUTO,
    warn: Warn = logging.warning,
) -> Tensor:
    """The masks cropped and resized as their pictures are for training, (N, size, size).

    Raises PictureError for masks that cannot be about these pictures, and for one that marks
    nothing in the centre square.
    """
    whole = read_masks(masks, pictures, marks, warn)
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
