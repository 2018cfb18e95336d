"""Pictures of a class by the untouched model, for prior preservation; made once and kept."""

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..concepts.disk import write_whole
from ..concepts.errors import DiskError, shown
from ..host.sampling import text_to_image
from .sources import OnPicture
from .states import training_key

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

SAMPLING = {
    "steps": 50,
    "cfg": 6.0,
    "sampler": "euler_ancestral",
    "scheduler": "ddim_uniform",
}
"""As Custom Diffusion's program makes them: 50 steps of DDIM with eta 1 at guidance 6.

DDIM with eta 1 adds, in the host's scale of sigmas, exactly the noise of the ancestral Euler
sampler. The host's "ddim" has eta 0.
"""

FORMER_SAMPLING = {"steps": 50, "cfg": 6.0, "sampler": "ddim", "scheduler": "normal"}
ETAS = {1.0: SAMPLING, 0.0: FORMER_SAMPLING}
"""By the eta of DDIM."""

TRAINING_KEY = "personalize"  # name of a text in a kept picture
CHUNK = 4  # pictures sampled together; a chunk's noise depends on its number alone


@dataclass(frozen=True)
class ClassPictures:
    """What decides the pictures: the prompt, their size and seed, and the model's fingerprint.

    sampling: settings of `text_to_image`, one of ETAS
    """

    prompt: str
    size: int
    seed: int
    fingerprint: list[str]
    sampling: dict[str, Any]

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
        key = training_key(self.prompt, self.size, self.seed, self.fingerprint, self.sampling)
        paths = [folder / key / f"{first + n:05d}.png" for n in range(CHUNK)]
        kept = [_read(path, self.size) for path in paths]
        pictures = [picture for picture in kept if picture is not None]
        if len(pictures) < CHUNK:
            pictures = list(self._sample(models, first))
            _keep(pictures, paths)
        return _dequantised(torch.stack(pictures))

    def _sample(self, models: "tuple[ModelPatcher, CLIP, VAE]", first: int) -> Tensor:
        seed = (self.seed + first) % 2**63
        pictures = text_to_image(
            *models, self.prompt, self.size, count=CHUNK, seed=seed, **self.sampling
        )
        return (pictures.clamp(0, 1) * 255).round().byte()


def _dequantised(pictures: Tensor) -> Tensor:
    return pictures.float() / 255


def _keep(pictures: list[Tensor], paths: list[Path]) -> None:
    """Write pictures (H, W, 3), bytes, as PNG files, each with a digest of its pixels."""
    try:
        for picture, path in zip(pictures, paths, strict=True):
            file, about = io.BytesIO(), PngInfo()
            about.add_text(TRAINING_KEY, training_key(picture))
            Image.fromarray(picture.numpy()).save(file, "PNG", pnginfo=about)
            write_whole(file.getvalue(), path)
    except DiskError as error:
        logging.warning(f"Pictures of the class are used and not kept: {error}")


def _read(path: Path, size: int) -> Tensor | None:
    """A kept picture (size, size, 3), bytes; None for one that is missing or damaged."""
    if not path.exists():
        return None
    try:
        with Image.open(path) as image:
            picture = torch.from_numpy(numpy.array(image.convert("RGB")))
            digest = image.info.get(TRAINING_KEY, "")  # none in those of earlier versions
    except Exception as error:  # a damaged picture raises many kinds
        logging.warning(f"The picture {path} is made again: {shown(error)}.")
        return None
    if picture.shape != (size, size, 3) or digest not in ("", training_key(picture)):
        logging.warning(f"The picture {path} is made again: it is not what was kept.")
        return None
    return picture
