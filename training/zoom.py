"""Pictures drawn smaller or larger, with prompts that say so and a loss on what is visible of them.

As Custom Diffusion does (Kumari et al. 2023, section 3.3), and after it the local stage of ELITE.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from ..host.denoiser import CELL
from ..host.latents import LatentPosterior
from .pictures import EncodedPictures, encode_squares

if TYPE_CHECKING:
    from comfy.sd import VAE

ZOOMS = ("", "a far away", "very small", "zoomed in", "close up")
"""What a prompt says of how a picture was zoomed, instead of its article; "" for not at all."""

GREY = 0.5  # beside a zoomed-out picture
MOST_VARIANTS = 64  # of all pictures together, and at least a quarter as many of each


def zoomed(template: str, zoom: str) -> str:
    """``a photo of a {}`` -> ``a far away photo of a {}``."""
    first, _, rest = template.partition(" ")
    if not zoom:
        return template
    return f"{zoom} {rest if first.lower() in ('a', 'an', 'the') else template}"


def zoomed_picture(picture: Tensor, size: int, generator: Generator) -> tuple[Tensor, Tensor, int]:
    """The picture to denoise, where its latents are visible, and the number in ZOOMS that says how.

    In two of three cases drawn at a third to the whole of the size, else at 1.2 to 1.4 times of it
    (Kumari et al. 2023, section 3.3). Below 0.6 it stands on grey, at any place.
    """
    smaller, scale, word = (uniform(generator) for _ in range(3))
    places = [uniform(generator), uniform(generator)]
    cells = size // CELL
    drawn = round(size * (1 / 3 + 2 / 3 * scale if smaller < 2 / 3 else 1.2 + 0.2 * scale))
    corner = [round(place * abs(size - drawn)) for place in places]
    if drawn > size:
        top, left = corner
        large = resized(picture, drawn)[:, top : top + size, left : left + size]
        return large, torch.ones(1, cells, cells), 3 + (word < 0.5)
    if drawn >= 0.6 * size:
        return resized(picture, size), torch.ones(1, cells, cells), 0
    canvas = torch.full((3, size, size), GREY)
    top, left = corner
    canvas[:, top : top + drawn, left : left + drawn] = resized(picture, drawn)
    visible = torch.zeros(1, cells, cells)
    rows, columns = (_inside(start, start + drawn) for start in corner)
    visible[:, rows, columns] = 1
    return canvas, visible, 1 + (word < 0.5)


def _inside(start: int, stop: int) -> slice:
    """Latent cells of a range of pixels without those at its edge, one at least."""
    first = start // CELL + 1
    return slice(first, max(stop // CELL - 1, first + 1))


def resized(picture: Tensor, size: int) -> Tensor:
    """A whole picture (3, H, W) as a square, whatever its shape."""
    if picture.shape[1:] == (size, size):
        return picture
    scaled = interpolate(picture[None], (size, size), mode="bicubic", antialias=True)
    return scaled[0].clamp(0, 1)


def uniform(generator: Generator) -> float:
    """A number from 0 to below 1."""
    return float(torch.rand((), generator=generator))


def visible_mean(errors: Tensor, visible: Tensor) -> Tensor:
    """Mean over each sample's visible latents, then over the samples; (B, C, h, w), (B, 1, h, w).

    So every sample counts alike, however little of it is visible.
    """
    visible = visible.expand_as(errors)
    return ((errors * visible).sum(dim=(1, 2, 3)) / visible.sum(dim=(1, 2, 3))).mean()


@dataclass(frozen=True)
class Zooms:
    """Encoded variants of pictures, how each was zoomed, and where it shows the picture.

    numbers: (V,) in ZOOMS; sources: (V,) numbers of the pictures; visible: (V, 1, h, w) of the
        latents
    """

    pictures: EncodedPictures
    numbers: Tensor
    sources: Tensor
    visible: Tensor

    def visible_in(self, index: Tensor, mirrored: Tensor) -> Tensor:
        """Of the indexed variants, (B, 1, h, w), mirrored where they are."""
        visible = self.visible[index]
        return torch.where(mirrored.view(-1, 1, 1, 1), visible.flip(-1), visible)

    def tensors(self) -> list[Tensor]:
        return [self.numbers, self.visible]


def encode_zooms(vae: "VAE", squares: Tensor, flip: bool, seed: int) -> Zooms:
    """Variants of pictures (N, size, size, 3), drawn from a seed and encoded once.

    The published programs draw and encode anew for each step. Encoding takes the VAE's turn on the
    device, so here a training draws from a store, in which every plain variant is one encoding.
    """
    generator = Generator().manual_seed(seed)
    count = max(MOST_VARIANTS // len(squares), MOST_VARIANTS // 4)
    encoded, numbers, visible = [], [], []
    for square in squares:
        rows, pictures = [], [square]
        for _ in range(count):
            drawn, seen, number = zoomed_picture(square.movedim(-1, 0), square.shape[0], generator)
            if number:
                pictures.append(drawn.movedim(0, -1))
            rows.append(len(pictures) - 1 if number else 0)
            numbers.append(number)
            visible.append(seen)
        encoded.append(_rows(encode_squares(vae, torch.stack(pictures), flip), rows))
    return Zooms(
        _joined(encoded),
        torch.tensor(numbers),
        torch.arange(len(squares)).repeat_interleave(count),
        torch.stack(visible),
    )


def _rows(pictures: EncodedPictures, rows: Sequence[int]) -> EncodedPictures:
    upright, mirrored = (
        None if p is None else LatentPosterior(p.mean[rows], p.std[rows])
        for p in (pictures.upright, pictures.mirrored)
    )
    assert upright is not None
    return EncodedPictures(upright, mirrored)


def _joined(parts: Sequence[EncodedPictures]) -> EncodedPictures:
    upright = _one([part.upright for part in parts])
    mirrored = [part.mirrored for part in parts if part.mirrored is not None]
    return EncodedPictures(upright, _one(mirrored) if mirrored else None)


def _one(parts: Sequence[LatentPosterior]) -> LatentPosterior:
    return LatentPosterior(torch.cat([p.mean for p in parts]), torch.cat([p.std for p in parts]))
