"""Pictures of a class by the untouched model, for prior preservation; made once and kept."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from PIL import Image
from torch import Tensor

from ..host.sampling import text_to_image
from .states import training_key

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

OnPicture = Callable[[int, int], None]
SAMPLING = {"steps": 50, "cfg": 6.0, "sampler": "ddim", "scheduler": "normal"}
"""As DETEX and Custom Diffusion sample."""
CHUNK = 4  # pictures sampled together; a chunk's noise depends on its number alone


@dataclass(frozen=True)
class ClassPictures:
    """What decides the pictures: the prompt, their size and seed, and the model's fingerprint."""

    prompt: str
    size: int
    seed: int
    fingerprint: list[str]

    def make(
        self,
        models: "tuple[ModelPatcher, CLIP, VAE]",
        count: int,
        folder: Path | None,
        on_picture: OnPicture,
    ) -> Tensor:
        """The first `count` of them, (count, size, size, 3) in 0..1, made or read from the folder.

        They are kept as PNG files, so a later or cancelled run makes only what is missing; None
        keeps nothing. on_picture: told how many there are, of how many
        """
        chunks = []
        for first in range(0, count, CHUNK):
            on_picture(first, count)
            chunks.append(self._chunk(models, first, folder))
        on_picture(count, count)
        return torch.cat(chunks)[:count]

    def _chunk(
        self, models: "tuple[ModelPatcher, CLIP, VAE]", first: int, folder: Path | None
    ) -> Tensor:
        if folder is None:
            return _dequantised(self._sample(models, first))
        key = training_key(self.prompt, self.size, self.seed, self.fingerprint, SAMPLING)
        paths = [folder / key / f"{first + n:05d}.png" for n in range(CHUNK)]
        if not all(path.exists() for path in paths):
            for path, picture in zip(paths, self._sample(models, first), strict=True):
                _write(picture, path)
        return _dequantised(torch.stack([_read(path) for path in paths]))

    def _sample(self, models: "tuple[ModelPatcher, CLIP, VAE]", first: int) -> Tensor:
        seed = (self.seed + first) % 2**63
        pictures = text_to_image(
            *models, self.prompt, self.size, count=CHUNK, seed=seed, **SAMPLING
        )
        return (pictures.clamp(0, 1) * 255).round().byte()


def _dequantised(pictures: Tensor) -> Tensor:
    return pictures.float() / 255


def _write(picture: Tensor, path: Path) -> None:
    """(H, W, 3) bytes as a PNG that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    Image.fromarray(picture.numpy()).save(unfinished, format="PNG")
    os.replace(unfinished, path)


def _read(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(numpy.array(image.convert("RGB")))
