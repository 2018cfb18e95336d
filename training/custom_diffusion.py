"""Custom Diffusion (Kumari et al. 2023): a word, and the keys and values of the cross attention."""

from dataclasses import dataclass

from torch import Generator, Tensor

from ..concepts.concept import Concept
from ..concepts.methods import CUSTOM_DIFFUSION
from ..host.backbone import Backbone
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
from .textual_inversion import vocabulary_words
from .word_learner import WordLearner


@dataclass(frozen=True, kw_only=True)
class CustomDiffusionConfig(PriorConfig):
    templates: str = "photo of a {}"
    steps: int = 300
    batch_size: int = 8
    learning_rate: float = 1e-5


class CustomDiffusion(WordLearner):
    """The subject word v, (1, d), and the projections, whole or at a rank."""

    config_type = CustomDiffusionConfig
    method = CUSTOM_DIFFUSION

    def __init__(
        self, config: CustomDiffusionConfig, backbone: Backbone, pictures: PicturesWithPrior
    ) -> None:
        word = vocabulary_words(backbone.text, config.init_word, 1)
        subject = [range(1), f" {config.class_word}"]
        super().__init__(config, backbone, pictures, words=word, subject=subject)
        self.prior_context = encoded_prompt(backbone, config.prior_prompt)
        self.projections = open_projections(backbone, self.config.rank, config.train_seed)

    @classmethod
    def prepare(
        cls, config: CustomDiffusionConfig, sources: Sources, backbone: Backbone
    ) -> PicturesWithPrior:
        pictures = super().prepare(config, sources, backbone)
        prior = encode_prior(config, sources, backbone, pictures)
        return PicturesWithPrior(**vars(pictures), prior=prior)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"words": self.words, **self.projections.parameters}

    def draw(self, backbone: Backbone, generator: Generator) -> BatchWithPrior:
        size = self.config.batch_size
        return draw_with_prior(self.pictures, backbone, generator, size=size, prompts=self.prompts)

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
