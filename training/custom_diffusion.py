"""Custom Diffusion (Kumari et al. 2023): a word, and the keys and values of the cross attention."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..concepts.concept import Concept
from ..concepts.differences import difference_tensors
from ..concepts.errors import TrainingError
from ..concepts.methods import CUSTOM_DIFFUSION
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from .batch import Batch, with_prior
from .config import TrainConfig, check_class_word
from .prompts import PromptTable
from .textual_inversion import initial_words
from .word_learner import WordLearner

PRIOR_TEMPLATE = "photo of a {}"


@dataclass(frozen=True, kw_only=True)
class PriorConfig(TrainConfig):
    """class_word: what the subject is; follows the learned word in every prompt

    init_word: a rare token, whose embedding the learned word starts from; "ucd" is one of the
        published code's rare words, and one token of the vocabulary
    prior_count: pictures of the class that the untouched model makes when none are given
    prior_weight: of the loss on pictures of the class; 0 needs none of them
    """

    class_word: str
    init_word: str = "ucd"
    prior_count: int = 200
    prior_weight: float = 1.0

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

    @property
    def prior_prompt(self) -> str:
        return PRIOR_TEMPLATE.format(self.class_word)


@dataclass(frozen=True, kw_only=True)
class CustomDiffusionConfig(PriorConfig):
    templates: str = "photo of a {}"
    steps: int = 300
    batch_size: int = 8
    learning_rate: float = 1e-5


class CustomDiffusion(WordLearner):
    """The subject word v, (1, d), and fp32 copies of the projections, by path."""

    method = CUSTOM_DIFFUSION

    def __init__(self, config: CustomDiffusionConfig, backbone: Backbone) -> None:
        word = initial_words(backbone.text, config.init_word, 1)
        subject = [range(1), f" {config.class_word}"]
        super().__init__(config, backbone.text, word, subject, config.class_word)
        self.prior_weight = config.prior_weight
        self.prior_context = encoded_prompt(backbone, config.prior_prompt)
        self.projections = Projections(backbone)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"words": self.words, **self.projections.weights}

    def loss(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """L_LDM with prior preservation."""
        context = self.context(backbone, batch)
        return with_prior(backbone, batch, context, self.prior_context, self.prior_weight)

    def to_concept(self) -> Concept:
        return Concept(
            method=self.method,
            base=self.base,
            text_width=self.width,
            placeholder=self.placeholder,
            class_word=self.class_word,
            words={"": self.words.detach()},
            tensors=difference_tensors(self.projections.differences()),
        )


class Projections:
    """Key and value weights of every cross attention in training, and where they started."""

    def __init__(self, backbone: Backbone) -> None:
        self.weights: dict[str, Tensor] = dict(backbone.open_projections())
        self._start = {path: weight.detach().clone() for path, weight in self.weights.items()}

    def differences(self) -> dict[str, Tensor]:
        """How far each weight has gone, by path."""
        return {path: w.detach() - self._start[path] for path, w in self.weights.items()}


def encoded_prompt(backbone: Backbone, prompt: str) -> Conditioning:
    """Conditioning of one prompt without learned words."""
    table = PromptTable(backbone.text, [[prompt]])  # refuses one that is too long
    with torch.no_grad():
        return backbone.text.encode(table.plain(backbone.text, torch.tensor([0])))
