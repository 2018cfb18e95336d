"""Prior preservation (Kumari et al. 2023, section 3.2): pictures of the class beside the subject's,
so that the class keeps its meaning while the weights change."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Generator, Tensor

from ..concepts.bases import Base
from ..concepts.errors import TrainingError
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from .batch import Batch, draw_batch, squared_errors
from .config import TrainConfig, check_class_word
from .pictures import EncodedPictures, encode_pictures
from .prior import ETAS, ClassPictures
from .sources import Sources
from .zoom import visible_mean

PRIOR_TEMPLATE = "photo of a {}"
OWN_RANK = -1
"""The rank that a base model asks for."""

AnyPriorConfig = TypeVar("AnyPriorConfig", bound="PriorConfig")


@dataclass(frozen=True, kw_only=True)
class PriorConfig(TrainConfig):
    """class_word: what the subject is; follows the learned word in every prompt

    init_word: a rare token, whose embedding the learned word starts from; "ucd" is one of the
        published code's rare words, and one token of the vocabulary
    prior_count: pictures of the class that the untouched model makes when none are given
    prior_weight: of the loss on pictures of the class; 0 needs none of them
    rank: of the changes of keys and values, 0 for whole weights as in the paper, -1 for what the
        base model asks for
    prior_eta: noise that DDIM adds anew while it draws them, 1 in the published code
    first_token: whether a prompt's first token trains keys and values; not in the published code
    """

    class_word: str
    init_word: str = "ucd"
    prior_count: int = 200
    prior_weight: float = 1.0
    rank: int = OWN_RANK
    prior_eta: float = 1.0
    first_token: bool = False
    former: ClassVar[Mapping[str, Any]] = {
        **TrainConfig.former,
        "rank": 0,
        "prior_eta": 0.0,
        "first_token": True,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_class_word(self.class_word)
        if self.prior_weight < 0:
            raise TrainingError(
                f"Expected a prior_weight of 0 or more, got {self.prior_weight}. 1 is usual."
            )
        if self.prior_count < 1 and self.prior_weight:
            raise TrainingError(
                f"Expected a prior_count of 1 or more, got {self.prior_count}. 200 is usual; to "
                "learn without pictures of the class, set prior_weight to 0."
            )
        if self.prior_eta not in ETAS:
            raise TrainingError(f"Expected a prior_eta of 0 or 1, got {self.prior_eta}.")
        if self.rank < OWN_RANK:
            raise TrainingError(
                f"Expected a rank of 1 or more, 0 for whole weights or {OWN_RANK} for what the "
                f"base model asks for, got {self.rank}. 32 is usual."
            )

    def on_base(self: AnyPriorConfig, base: Base, resolution: int) -> AnyPriorConfig:
        config = super().on_base(base, resolution)
        return config if config.rank != OWN_RANK else replace(config, rank=base.rank)

    @property
    def prior_prompt(self) -> str:
        return PRIOR_TEMPLATE.format(self.class_word)


@dataclass(frozen=True, kw_only=True)
class PicturesWithPrior(EncodedPictures):
    """prior: pictures of the class that do not show the subject, None when it is not preserved"""

    prior: EncodedPictures | None

    def batch_shape(self, size: int) -> tuple[int, int, int, int]:
        return super().batch_shape(size if self.prior is None else 2 * size)

    def tensors(self) -> list[Tensor]:
        return [*super().tensors(), *(self.prior.tensors() if self.prior is not None else [])]


@dataclass(frozen=True, kw_only=True)
class BatchWithPrior(Batch):
    """prior: as many pictures of the class as there are of the subject

    visible: (B, 1, h, w), where the latents show the picture; None for everywhere
    """

    prior: Batch | None = None
    visible: Tensor | None = None


def encode_prior(
    config: PriorConfig, sources: Sources, backbone: Backbone, pictures: EncodedPictures
) -> EncodedPictures | None:
    """The given pictures of the class, or those that the untouched model makes; None when they
    have no weight. They are not mirrored: there are many of them.

    pictures: those of the subject
    """
    if not config.prior_weight:
        return None
    with torch.inference_mode():
        images = sources.prior_images or [class_pictures(config, sources, backbone, pictures)]
        return encode_pictures(sources.vae, images, config.resolution, False, what="Prior picture")


def class_pictures(
    config: PriorConfig, sources: Sources, backbone: Backbone, pictures: EncodedPictures
) -> Tensor:
    """Pictures of the class by the untouched model, (count, size, size, 3) in 0..1."""
    with backbone.session(pictures.batch_shape(2 * config.at_once)):
        fingerprint = backbone.fingerprint()  # of the weights in use, LoRAs included
    wanted = ClassPictures(
        config.prior_prompt,
        config.resolution,
        config.train_seed,
        fingerprint,
        ETAS[config.prior_eta],
    )
    models = sources.model, sources.clip, sources.vae
    return wanted.make(models, config.prior_count, sources.prior_folder, sources.on_prior)


def draw_with_prior(
    pictures: PicturesWithPrior,
    backbone: Backbone,
    generator: Generator,
    *,
    size: int,
    prompts: int = 1,
) -> BatchWithPrior:
    """As `draw_batch`, and then the same of the class."""
    batch = draw_batch(pictures, backbone, generator, size=size, prompts=prompts)
    if pictures.prior is None:
        return BatchWithPrior(**vars(batch))
    prior = draw_batch(pictures.prior, backbone, generator, size=size)
    return BatchWithPrior(**vars(batch), prior=prior)


def losses_with_prior(
    backbone: Backbone,
    batch: BatchWithPrior,
    context: Conditioning,
    *,
    prior_context: Conditioning,
    prior_weight: float,
) -> dict[str, Tensor]:
    """L_LDM and the weighted loss of the class pictures, from one pass of the UNet.

    prior_context: of the class pictures' prompts, one or several. Without class pictures the first
        term alone.
    """
    prior = batch.prior
    if prior is None:
        errors = squared_errors(backbone, batch, context)
        return {"denoising": mean_error(errors, batch.visible)}
    both = Batch(
        *(torch.cat([getattr(b, name) for b in (batch, prior)]) for name in ("x0", "noise", "t")),
        index=batch.index,
        prompt=batch.prompt,
    )
    contexts = Conditioning.cat([context, prior_context.of_prompts(prior.prompt)])
    subject, other = squared_errors(backbone, both, contexts).split([len(batch.t), len(prior.t)])
    return {
        "denoising": mean_error(subject, batch.visible),
        "prior": prior_weight * other.mean(),
    }


def mean_error(errors: Tensor, visible: Tensor | None) -> Tensor:
    """Mean of squared errors (B, C, h, w), over what is visible of each picture.

    Custom Diffusion's program divides by a one-channel mask, for pictures of the class too: all of
    its loss is the number of channels times ours, which its optimizer does not see. diffusers does
    so for the subject alone, so that pictures of the class count a quarter there.
    """
    return errors.mean() if visible is None else visible_mean(errors, visible)
