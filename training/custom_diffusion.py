"""Custom Diffusion (Kumari et al. 2023): a word, and the keys and values of the cross attention."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Generator, Tensor

from ..concepts.concept import Concept
from ..concepts.methods import CUSTOM_DIFFUSION
from ..host.backbone import Backbone
from ..pictures.images import square_pictures
from .captions import check_captions
from .pictures import encode_squares
from .preservation import (
    BatchWithPrior,
    PicturesWithPrior,
    PriorConfig,
    draw_with_prior,
    encode_prior,
    losses_with_prior,
)
from .projections import open_projections
from .prompts import encoded_prompt
from .sources import Sources
from .templates import parse_templates
from .textual_inversion import vocabulary_words
from .word_learner import WordLearner
from .zoom import ZOOMS, Zooms, encode_zooms, zoomed

BASE_RATE = 1e-5
"""The published one. Its program multiplies it by 4 pictures a GPU and by 2 GPUs (`scale_lr`), of
which one half shows the class: 4 of the subject and 4 of the class a step. diffusers comes to the
same."""

FACE_RATE = 5e-6
"""The same for faces, which the program trains for 750 steps."""


@dataclass(frozen=True, kw_only=True)
class CustomDiffusionConfig(PriorConfig):
    """zoom: pictures are drawn smaller, on grey, or larger, and the prompts say so; off for a model
    that has not seen such pictures
    """

    templates: str = "photo of a {}"
    steps: int = 300
    batch_size: int = 4
    learning_rate: float = 8 * BASE_RATE
    zoom: bool = True
    former: ClassVar[Mapping[str, Any]] = {**PriorConfig.former, "zoom": False}


@dataclass(frozen=True, kw_only=True)
class CustomDiffusionPictures(PicturesWithPrior):
    """zooms: of which the pictures are the variants, None when they are not zoomed"""

    zooms: Zooms | None = None

    def tensors(self) -> list[Tensor]:
        return [*super().tensors(), *(self.zooms.tensors() if self.zooms is not None else [])]


class CustomDiffusion(WordLearner):
    """The subject word v, (1, d), and the projections, whole or at a rank."""

    config_type = CustomDiffusionConfig
    method = CUSTOM_DIFFUSION

    def __init__(
        self, config: CustomDiffusionConfig, backbone: Backbone, pictures: CustomDiffusionPictures
    ) -> None:
        word = vocabulary_words(backbone.text, config.init_word, 1)
        subject = [range(1), f" {config.class_word}"]
        templates = parse_templates(config.templates)
        self.unzoomed = len(templates)
        zooms = ZOOMS if config.zoom else ZOOMS[:1]
        super().__init__(
            config,
            backbone,
            pictures,
            words=word,
            subject=subject,
            templates=[zoomed(template, zoom) for zoom in zooms for template in templates],
        )
        self.prior_context = encoded_prompt(backbone, config.prior_prompt)
        self.projections = open_projections(backbone, self.config.rank, config.train_seed)
        if not config.first_token:
            backbone.detach_first_token()

    @classmethod
    def prepare(
        cls, config: CustomDiffusionConfig, sources: Sources, backbone: Backbone
    ) -> CustomDiffusionPictures:
        squares, zooms = square_pictures(sources.images, config.resolution), None
        captions = check_captions(sources.captions, len(squares))
        if config.zoom:
            zooms = encode_zooms(sources.vae, squares, config.flip, config.train_seed)
            captions = tuple(captions[n] for n in zooms.sources.tolist()) if captions else ()
        pictures = zooms.pictures if zooms else encode_squares(sources.vae, squares, config.flip)
        pictures = replace(pictures, captions=captions)
        prior = encode_prior(config, sources, backbone, pictures)
        return CustomDiffusionPictures(**vars(pictures), prior=prior, zooms=zooms)

    def captioned_template(self, picture: int, template: str) -> str:
        """A caption says how the picture is zoomed, as templates do."""
        zooms = self.pictures.zooms
        return template if zooms is None else zoomed(template, ZOOMS[zooms.numbers[picture]])

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"words": self.words, **self.projections.parameters}

    def draw(self, backbone: Backbone, generator: Generator) -> BatchWithPrior:
        """As with any class pictures; of a zoomed one the prompt says how."""
        size, zooms = self.config.batch_size, self.pictures.zooms
        batch = draw_with_prior(
            self.pictures, backbone, generator, size=size, prompts=self.unzoomed
        )
        if zooms is None or batch.mirrored is None:
            return batch
        return replace(
            batch,
            prompt=batch.prompt + self.unzoomed * zooms.numbers[batch.index],
            visible=zooms.visible_in(batch.index, batch.mirrored).to(backbone.device),
        )

    def loss(self, backbone: Backbone, batch: BatchWithPrior) -> dict[str, Tensor]:
        """L_LDM with prior preservation."""
        return losses_with_prior(
            backbone,
            batch,
            self.context(backbone, batch),
            prior_context=self.prior_context,
            prior_weight=self.config.prior_weight,
        )

    def to_concept(self) -> Concept:
        return self.concept(words={"": self.words}, tensors=self.projections.tensors())
