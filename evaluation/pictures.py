"""Pictures of any sizes with their masks, as the extractors take them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..concepts.errors import EvaluationError
from ..pictures.images import check_finite, plain_pixels, single_pictures

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
    what: how a message calls these pictures. Raises PictureError for what is no
        picture, EvaluationError for none at all.
    """
    pictures = []
    for n, picture in enumerate(single_pictures(images)):
        check_finite(picture, f"The {what} picture {n + 1}")
        pictures.append((plain_pixels(picture) * 255).round().to(torch.uint8))
    if not pictures:
        raise EvaluationError(f"There are no {what} pictures. Connect at least one.")
    return pictures


def with_masks(pictures: Sequence[Tensor], masks: Sequence[Tensor] | None) -> list[Picture]:
    """Pictures from `read_pictures`, with masks (H, W) of their sizes, if there are any."""
    if masks is None:
        return [Picture(pixels.numpy()) for pixels in pictures]
    pairs = zip(pictures, masks, strict=True)
    return [Picture(pixels.numpy(), mask.numpy()) for pixels, mask in pairs]


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
