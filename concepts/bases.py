"""What is known of each base model without ComfyUI: one line a base.

What ComfyUI makes of it stands in `host/bases`, one file a base.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import ConceptFileError


@dataclass(frozen=True)
class Base:
    """A family of base models that a concept fits, at the sizes of the published models.

    encoders: name and width of each text encoder, in the order in which a word's row holds them;
        the names are those of the host, which are also the keys of stock embeddings
    context_width: of the conditioning that the UNet reads
    resolution: side in pixels of the pictures that its best known models were trained on
    rank: at which changes of its weights are learned where nothing else is asked for, 0 for whole
        weights
    """

    key: str
    title: str
    encoders: tuple[tuple[str, int], ...]
    context_width: int
    resolution: int
    rank: int = 0

    @property
    def text_width(self) -> int:
        """Width of a word: its vectors in all encoders, side by side."""
        return sum(width for _, width in self.encoders)

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.encoders)

    def split(self, words: Tensor) -> dict[str, Tensor]:
        """The part of each encoder in words (n, text_width), by its name.

        With a single encoder words may have any width, as those of small models do.
        """
        if len(self.encoders) == 1:
            return {self.encoder_names[0]: words}
        if words.shape[-1] != self.text_width:
            raise ConceptFileError(
                f"A word of {self.title} has {self.text_width} numbers, got {words.shape[-1]}."
            )
        parts = words.split([width for _, width in self.encoders], dim=-1)
        return dict(zip(self.encoder_names, parts, strict=True))

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Words from the vectors of each encoder, which must be equally many."""
        vectors = [parts[name] for name in self.encoder_names]
        if len(vectors) == 1:
            return vectors[0]
        shapes = [tuple(part.shape) for part in vectors]
        if any(not shape or shape[:-1] != shapes[0][:-1] for shape in shapes):
            names = " and ".join(self.encoder_names)
            raise ConceptFileError(
                f"Expected equally many vectors for {names}, got tensors of the shapes {shapes}."
            )
        return torch.cat(vectors, dim=-1)


class TextLayer(NamedTuple):
    """A layer of one of a base's text encoders, counted from 0."""

    encoder: str
    index: int


BASES = {
    base.key: base
    for base in (
        Base("sd1", "Stable Diffusion 1.x", (("clip_l", 768),), 768, 512),
        Base("sd2", "Stable Diffusion 2.x", (("clip_h", 1024),), 1024, 768),
        Base("sdxl", "Stable Diffusion XL", (("clip_l", 768), ("clip_g", 1280)), 2048, 1024, 32),
    )
}
"""Every base by its key, which is what a concept file says."""
