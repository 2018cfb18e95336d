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
class Views:
    """What DETEX knows of each picture besides its latents.

    embeddings: CLIP's of the pictures, (N, e); masks: 1 on the subject, (N, size, size);
    blanked: the pictures without their background, None when they are not needed
    """

    embeddings: Tensor
    masks: Tensor
    blanked: "EncodedPictures | None"

    def tensors(self) -> list[Tensor]:
        blanked = self.blanked.tensors() if self.blanked is not None else []
        return [self.embeddings, self.masks, *blanked]


@dataclass(frozen=True)
class EncodedPictures:
    """Posteriors of the training pictures, encoded once; `mirrored` when flips are wanted.

    prior: pictures of the class that do not show the subject, for methods that preserve it
    """

    upright: LatentPosterior
    mirrored: LatentPosterior | None
    prior: "EncodedPictures | None" = None
    views: Views | None = None

    def __len__(self) -> int:
        return len(self.upright)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.upright.mean.shape
        return channels, height, width

    def tensors(self) -> list[Tensor]:
        """All numbers that a training could see."""
        parts = [p for p in (self.upright, self.mirrored) if p is not None]
        own = [tensor for p in parts for tensor in (p.mean, p.std)]
        others = [part.tensors() for part in (self.prior, self.views) if part is not None]
        return [*own, *(tensor for tensors in others for tensor in tensors)]

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
    vae: "VAE", images: Iterable[Tensor], size: int, flip: bool, what: str = "Picture"
) -> EncodedPictures:
    """Crop, resize and encode the pictures, and their mirror images when flip is on."""
    return encode_squares(vae, square_pictures(images, size, what), flip)


def encode_squares(vae: "VAE", squares: Tensor, flip: bool) -> EncodedPictures:
    """Encode pictures (N, size, size, 3), and their mirror images when flip is on."""
    mirrored = encode_posterior(vae, squares.flip(2)) if flip else None
    return EncodedPictures(encode_posterior(vae, squares), mirrored)
