"""Training pictures: any sizes in, their latents out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from ..host.latents import LatentPosterior, encode_posterior
from ..pictures.images import square_pictures

if TYPE_CHECKING:
    from comfy.sd import VAE


@dataclass(frozen=True)
class EncodedPictures:
    """Posteriors of the training pictures, encoded once; `mirrored` when flips are wanted. A method
    that learns from more than pictures extends it.

    captions: one for each picture, "" for a picture without; empty when none has one
    """

    upright: LatentPosterior
    mirrored: LatentPosterior | None
    captions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.upright)

    def batch_shape(self, size: int) -> tuple[int, int, int, int]:
        """Shape of all latents (B, C, h, w) that go through the UNet for a batch of that size."""
        _, channels, height, width = self.upright.mean.shape
        return size, channels, height, width

    def tensors(self) -> list[Tensor]:
        """All numbers that a training could see, in an order that never changes: training states
        of earlier versions are found by them."""
        parts = [p for p in (self.upright, self.mirrored) if p is not None]
        return [tensor for p in parts for tensor in (p.mean, p.std)]

    def sample(self, index: Tensor, mirrored: Tensor, generator: Generator) -> Tensor:
        """Latents of the indexed pictures, (B, C, h, w), sampled anew from their posteriors.

        index: (B,) integers; mirrored: (B,) booleans, ignored when flips were not encoded
        """
        latents = self.upright.sample(index, generator)
        if self.mirrored is None:
            return latents
        flipped = self.mirrored.sample(index, generator)
        return torch.where(mirrored.view(-1, 1, 1, 1), flipped, latents)


def encode_pictures(
    vae: "VAE", images: Iterable[Tensor], size: int, flip: bool, *, what: str = "Picture"
) -> EncodedPictures:
    """Crop, resize and encode the pictures, and their mirror images when flip is on."""
    return encode_squares(vae, square_pictures(images, size, what), flip)


def encode_squares(vae: "VAE", squares: Tensor, flip: bool) -> EncodedPictures:
    """Encode pictures (N, size, size, 3), and their mirror images when flip is on."""
    mirrored = encode_posterior(vae, squares.flip(2)) if flip else None
    return EncodedPictures(encode_posterior(vae, squares), mirrored)
