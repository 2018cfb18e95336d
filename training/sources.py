"""What a training may learn from. A method takes what it needs of it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..pictures.masks import MaskMarks, Warn

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

OnPicture = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The host's sockets, as a node is given them.

    images: pictures of the subject, batches (B, H, W, C) in 0..1 of any sizes
    masks: one for each picture, with mask_marks and warn as `read_masks` takes them
    clip_vision: the host's CLIP_VISION
    prior_images: pictures of the class, batches as `images`; without any, the model makes them
    second_images, second_prior_images: the same of a second subject, of methods that learn two at
        once
    captions: one for each picture of the subject, or none; methods that train with prompts of
        their own do not read them
    prior_folder: keeps those that the model made, None to keep none
    on_prior: told how many of them there are, of how many
    """

    model: "ModelPatcher"
    clip: "CLIP"
    vae: "VAE"
    images: Sequence[Tensor]
    masks: Sequence[Tensor] = ()
    mask_marks: MaskMarks = MaskMarks.AUTO
    warn: Warn = logging.warning
    clip_vision: Any = None
    prior_images: Sequence[Tensor] = ()
    second_images: Sequence[Tensor] = ()
    second_prior_images: Sequence[Tensor] = ()
    captions: Sequence[str] = ()
    prior_folder: Path | None = None
    on_prior: OnPicture = lambda made, count: None

    @property
    def all_images(self) -> list[Tensor]:
        """Of every subject."""
        return [*self.images, *self.second_images]

    def of_second(self) -> "Sources":
        """Those of the second subject alone."""
        return replace(
            self,
            images=self.second_images,
            prior_images=self.second_prior_images,
            captions=(),
            second_images=(),
            second_prior_images=(),
        )
