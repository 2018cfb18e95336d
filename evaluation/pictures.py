"""Pictures of any sizes with their masks, as the extractors take them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..concepts.errors import EvaluationError

WHITE, BLACK = 255, 0


@dataclass(frozen=True, eq=False)
class Picture:
    """pixels: (H, W, 3), uint8; mask: (H, W) in 0..1, 1 on the subject, None if unknown."""

    pixels: np.ndarray
    mask: np.ndarray | None = None

    @property
    def image(self) -> Image.Image:
        return Image.fromarray(self.pixels)

    def subject_on(self, ground: int) -> Image.Image:
        """The subject alone, on an even ground: WHITE is DETEX's blank background, BLACK is
        CatVersion's product of picture and mask."""
        if self.mask is None:
            raise EvaluationError("This picture has no mask. Connect one, white on the subject.")
        m = self.mask[..., None]
        return Image.fromarray((self.pixels * m + ground * (1 - m) + 0.5).astype(np.uint8))


def read_pictures(images: Iterable[Tensor], what: str) -> list[Tensor]:
    """Single pictures (H, W, 3), uint8, of any sizes.

    images: batches (B, H, W, C) or single pictures (H, W, C), C = 1, 3 or 4, values in 0..1;
        transparent pixels become white
    what: how a message calls these pictures. Raises EvaluationError for what is no picture.
    """
    pictures = [_pixels(one, what, n + 1) for n, one in enumerate(_singles(images, what))]
    if not pictures:
        raise EvaluationError(f"There are no {what} pictures. Connect at least one.")
    return pictures


def with_masks(pictures: Sequence[Tensor], masks: Sequence[Tensor] | None) -> list[Picture]:
    """Pictures from `read_pictures`, with masks (H, W) of their sizes, if there are any."""
    if masks is None:
        return [Picture(pixels.numpy()) for pixels in pictures]
    pairs = zip(pictures, masks, strict=True)
    return [Picture(pixels.numpy(), mask.numpy()) for pixels, mask in pairs]


def _singles(images: Iterable[Tensor], what: str) -> Iterator[Tensor]:
    for batch in images:
        if batch.ndim not in (3, 4) or batch.shape[-1] not in (1, 3, 4):
            raise EvaluationError(
                f"Expected {what} pictures of shape (batch, height, width, channels), got "
                f"{tuple(batch.shape)}. Is it a mask? Connect an IMAGE."
            )
        yield from batch if batch.ndim == 4 else batch[None]


def _pixels(picture: Tensor, what: str, number: int) -> Tensor:
    values = picture.detach().to("cpu", torch.float32)
    if not torch.isfinite(values).all():
        raise EvaluationError(
            f"The {what} picture {number} holds NaN or infinite pixels. The node that made it "
            "failed: make it again, or remove it."
        )
    if values.shape[-1] == 4:
        values = values[..., :3] * values[..., 3:] + (1 - values[..., 3:])
    values = values.expand(*values.shape[:2], 3)
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def prompts_of_pictures(prompts: Sequence[str], images: Sequence[Tensor]) -> list[str]:
    """The prompt of each picture: one for all, one a batch, or one a picture.

    Raises EvaluationError for another count.
    """
    counts = [len(batch) if batch.ndim == 4 else 1 for batch in images]
    if len(prompts) == 1:
        return list(prompts) * sum(counts)
    if len(prompts) == len(counts):
        pairs = zip(prompts, counts, strict=True)
        return [prompt for prompt, count in pairs for _ in range(count)]
    if len(prompts) == sum(counts):
        return list(prompts)
    raise EvaluationError(
        f"Got {len(prompts)} prompts for {sum(counts)} generated pictures in {len(counts)} "
        "batches. Give one prompt for all, one a batch, or one a picture."
    )
