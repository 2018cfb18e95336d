"""Custom Diffusion (Kumari et al. 2023): a word, and the keys and values of the cross attention."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from ..concepts.concept import Concept, check_attribute
from ..concepts.methods import CUSTOM_DIFFUSION
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from ..pictures.images import square_pictures
from .batch import joined
from .captions import check_captions
from .config import check_class_word
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
    second_class_word, second_init_word: of a second subject that is learned at once; without
        pictures of it they say nothing
    second_name: the attribute by which prompts name it, as in <my-dog:second>
    """

    templates: str = "photo of a {}"
    steps: int = 300
    batch_size: int = 4
    learning_rate: float = 8 * BASE_RATE
    zoom: bool = True
    second_class_word: str = ""
    second_name: str = "second"
    second_init_word: str = "pll"
    former: ClassVar[Mapping[str, Any]] = {
        **PriorConfig.former,
        "zoom": False,
        "second_class_word": "",
        "second_name": "second",
        "second_init_word": "pll",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attribute(self.second_name)

    def of_second(self) -> "CustomDiffusionConfig":
        """How the second subject is prepared."""
        check_class_word(self.second_class_word, "second_class_word")
        return replace(self, class_word=self.second_class_word)


@dataclass(frozen=True, kw_only=True)
class CustomDiffusionPictures(PicturesWithPrior):
    """zooms: of which the pictures are the variants, None when they are not zoomed

    second: the same of a second subject, None for one alone
    """

    zooms: Zooms | None = None
    second: "CustomDiffusionPictures | None" = None

    def tensors(self) -> list[Tensor]:
        zooms = self.zooms.tensors() if self.zooms is not None else []
        second = self.second.tensors() if self.second is not None else []
        return [*super().tensors(), *zooms, *second]


class CustomDiffusion(WordLearner):
    """The subject word v, (1, d), and the projections, whole or at a rank.

    Two subjects learned jointly have a word each, (2, d), and share the projections.
    """

    config_type = CustomDiffusionConfig
    method = CUSTOM_DIFFUSION

    def __init__(
        self, config: CustomDiffusionConfig, backbone: Backbone, pictures: CustomDiffusionPictures
    ) -> None:
        configs = [config] if pictures.second is None else [config, config.of_second()]
        init_words = config.init_word, config.second_init_word
        words = [vocabulary_words(backbone.text, word, 1) for word in init_words[: len(configs)]]
        templates = parse_templates(config.templates)
        self.unzoomed = len(templates)
        zooms = ZOOMS if config.zoom else ZOOMS[:1]
        super().__init__(
            config,
            backbone,
            pictures,
            words=torch.cat(words),
            subjects=[[range(n, n + 1), f" {c.class_word}"] for n, c in enumerate(configs)],
            templates=[zoomed(template, zoom) for zoom in zooms for template in templates],
        )
        if pictures.second is not None:  # captions are the first subject's
            without = torch.full((len(pictures.second),), -1)
            self.captioned = torch.cat([self.captioned, without.to(self.captioned)])
        prior = [encoded_prompt(backbone, c.prior_prompt) for c in configs]
        self.prior_context = Conditioning.cat(prior)
        self.projections = open_projections(backbone, self.config.rank, config.train_seed)
        if not config.first_token:
            backbone.detach_first_token()

    @classmethod
    def prepare(
        cls, config: CustomDiffusionConfig, sources: Sources, backbone: Backbone
    ) -> CustomDiffusionPictures:
        pictures = cls._prepared(config, sources, backbone)
        if not sources.second_images:
            return pictures
        what = "Picture of the second subject"
        second = cls._prepared(config.of_second(), sources.of_second(), backbone, what)
        return replace(pictures, second=second)

    @classmethod
    def _prepared(
        cls,
        config: CustomDiffusionConfig,
        sources: Sources,
        backbone: Backbone,
        what: str = "Picture",
    ) -> CustomDiffusionPictures:
        """Of one subject."""
        squares, zooms = square_pictures(sources.images, config.resolution, what), None
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
        """As with any class pictures; of two subjects one half each, as in the published program.
        Of an odd number chance gives one of them more."""
        size, pictures = self.config.batch_size, self.pictures
        if pictures.second is None:
            return self._drawn(pictures, backbone, generator, size)
        more = int(torch.randint(2, (), generator=generator))
        sizes = (size + more) // 2, (size + 1 - more) // 2
        halves = [
            self._drawn(half, backbone, generator, count, number)
            for number, (half, count) in enumerate(
                zip((pictures, pictures.second), sizes, strict=True)
            )
            if count
        ]
        return joined(halves)

    def _drawn(
        self,
        pictures: CustomDiffusionPictures,
        backbone: Backbone,
        generator: Generator,
        size: int,
        subject: int = 0,
    ) -> BatchWithPrior:
        """Rows of one subject; of a zoomed picture the prompt says how."""
        batch = draw_with_prior(pictures, backbone, generator, size=size, prompts=self.unzoomed)
        zooms, prior = pictures.zooms, batch.prior
        if zooms is not None and batch.mirrored is not None:
            visible = zooms.visible_in(batch.index, batch.mirrored).to(backbone.device)
            prompt = batch.prompt + self.unzoomed * zooms.numbers[batch.index]
            batch = replace(batch, prompt=prompt, visible=visible)
        if not subject:
            return batch
        return replace(
            batch,
            index=batch.index + len(self.pictures),
            prompt=batch.prompt + subject * self.templates,
            prior=prior and replace(prior, prompt=prior.prompt + subject),
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
        tensors = self.projections.tensors()
        if len(self.words) == 1:
            return self.concept(words={"": self.words}, tensors=tensors)
        name = self.config.second_name
        return self.concept(
            words={"": self.words[:1], name: self.words[1:]},
            tensors=tensors,
            class_words={name: self.config.second_class_word},
        )
