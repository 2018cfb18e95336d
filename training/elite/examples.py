"""What ELITE trains on: a subject becomes the picture to denoise, what the encoder sees, and noise.

Everything random in an example is a function of the seed and of the example's number in the whole
training, so it is the same however the work is shared among processes or resumed.
"""

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Generator, Tensor

from ...concepts.errors import PictureError, TrainingError
from ...host.denoiser import CELL
from ..templates import parse_templates
from ..zoom import resized, uniform, zoomed_picture
from .augmentation import choice, disguised, moved_subject
from .config import EliteConfig, TrainingStage

MOST_UNUSABLE = 100  # pictures in a row before the training gives up


@dataclass(frozen=True)
class SubjectPicture:
    """A picture (H, W, 3), fp32 in 0..1, and the mask (H, W) of its subject, None without one."""

    picture: Tensor
    mask: Tensor | None


class Unusable(PictureError):
    """A subject that is too small or too narrow, or has no mask: another takes its place."""


class Subjects(Protocol):
    """Pictures to train on, read one at a time; all of them have masks, or none."""

    with_masks: bool

    def __len__(self) -> int: ...

    def load(self, index: int, generator: Generator) -> SubjectPicture:
        """A subject, cropped at random where its crop is not fixed. Raises PictureError for one
        that cannot be used."""
        ...

    def identity(self) -> list[Any]:
        """JSON values that tell these pictures from others."""
        ...


@dataclass(frozen=True)
class Example:
    """target: (3, size, size), the picture to denoise; visible: (1, size / 8, size / 8)

    seen: (3, side, side), what the encoder makes words of; local: (3, side, side), the masked
    subject with mask (1, rows, columns) on the encoder's patches, both empty in the global stage;
    in the stage align the subject on white, with an empty mask
    caption: number of the prompt; noise, sampling: (4, size / 8, size / 8), of the latent and of
    the VAE's posterior; moment: in 0..1, of the noise schedule; index: of the subject
    """

    target: Tensor
    visible: Tensor
    seen: Tensor
    local: Tensor
    mask: Tensor
    caption: int
    noise: Tensor
    sampling: Tensor
    moment: float
    index: int


def example_generator(seed: int, number: int) -> Generator:
    """The random numbers of one example of a training."""
    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return Generator().manual_seed(int(state[0]))


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, count: int) -> Tensor:
    """The subjects of an epoch in the order in which they come."""
    # Another seed, or epoch n would be shuffled by the very numbers that example n is made of. Any
    # would do; this one stays, since a training that is resumed must find its order again.
    return torch.randperm(count, generator=example_generator(seed ^ 0x0E11, epoch))


@dataclass(frozen=True)
class Examples:
    """Makes the examples of a training by their numbers.

    side, patches: of the vision encoder; unusable: numbers of pictures that were told as such
    """

    subjects: Subjects
    config: EliteConfig
    side: int
    patches: int
    unusable: set[int] = field(default_factory=set)

    def __call__(self, number: int) -> Example:
        config = self.config
        generator = example_generator(config.train_seed, number)
        size = config.resolution
        # drawn first, so that they do not depend on what becomes of the picture
        shape = (4, size // CELL, size // CELL)
        noise, sampling = (torch.randn(shape, generator=generator) for _ in range(2))
        moment = uniform(generator)
        template = choice(generator, len(parse_templates(config.templates)))
        index, subject = self._subject(number, generator)
        picture = rearrange(subject.picture, "h w c -> c h w")
        target, visible, zoom = resized(picture, size), torch.ones(1, *shape[1:]), 0
        if config.stage is TrainingStage.LOCAL:
            assert subject.mask is not None  # checked before the training
            if config.zoom:
                target, visible, zoom = zoomed_picture(picture, size, generator)
            seen = resized(picture, self.side)
            local, mask = moved_subject(picture, subject.mask, self.side, self.patches, generator)
        else:
            whole = resized(picture, self.side)
            seen = disguised(whole, config.flip, config.stretch, generator)
            local, mask = torch.zeros(0), torch.zeros(0)
            if config.stage is TrainingStage.ALIGN:
                assert subject.mask is not None  # checked before the training
                local = resized(picture * subject.mask + (1 - subject.mask), self.side)
        caption = zoom * len(parse_templates(config.templates)) + template
        return Example(
            target, visible, seen, local, mask, caption, noise, sampling, moment, index
        )  # fmt: skip

    def _subject(self, number: int, generator: Generator) -> tuple[int, SubjectPicture]:
        """The subject of a number; in the place of an unusable one the next."""
        count = len(self.subjects)
        epoch, place = divmod(number, count)
        seed = self.config.train_seed
        last = ""
        for further in range(MOST_UNUSABLE):
            index = int(order(seed, epoch, count)[(place + further) % count])
            try:
                return index, self.subjects.load(index, generator)
            except PictureError as error:
                last = str(error)
                self._tell_once(index, last)
        raise TrainingError(f"{MOST_UNUSABLE} pictures in a row cannot be used. The last: {last}")

    def _tell_once(self, index: int, why: str) -> None:
        if index not in self.unusable:
            self.unusable.add(index)
            logging.warning("A picture is left out of the training. %s", why)
