"""Textual Inversion (Gal et al. 2022): new words, of which only the embeddings are trained."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..concepts.concept import MAX_VECTORS
from ..concepts.errors import TrainingError
from ..concepts.methods import TEXTUAL_INVERSION
from ..host.backbone import Backbone
from ..host.text_encoder import TextEncoder
from .config import TrainConfig
from .pictures import EncodedPictures
from .presets import SDXL_WORDS, Preset
from .word_learner import WordLearner

PRESETS = {"published": Preset(5000, 0.005, 1), "sdxl": SDXL_WORDS}
"""The published program's settings, and those for Stable Diffusion XL."""


@dataclass(frozen=True, kw_only=True)
class TextualInversionConfig(TrainConfig):
    """init_word: the word whose embedding the new ones start from, and the class word."""

    init_word: str
    vectors: int = 1
    steps: int = PRESETS["published"].steps
    batch_size: int = 1
    learning_rate: float = PRESETS["published"].learning_rate

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.vectors < MAX_VECTORS:
            raise TrainingError(
                f"Expected 1 to {MAX_VECTORS - 1} vectors, got {self.vectors}. A prompt holds 75 "
                "tokens, and some must be left for its other words; 1 is usual."
            )

    @property
    def class_word(self) -> str:
        return self.init_word


class TextualInversion(WordLearner):
    """New words of the text encoder, (vectors, d), started from a vocabulary word's embedding."""

    config_type = TextualInversionConfig
    method = TEXTUAL_INVERSION

    def __init__(
        self, config: TextualInversionConfig, backbone: Backbone, pictures: EncodedPictures
    ) -> None:
        words = vocabulary_words(backbone.text, config.init_word, config.vectors)
        subject = [range(config.vectors)]
        super().__init__(config, backbone, pictures, words=words, subjects=[subject])


def vocabulary_words(text: TextEncoder, init_word: str, vectors: int) -> Tensor:
    """Embeddings of a word's tokens, (vectors, d); the last token is repeated as needed."""
    tokens = text.tokenize(init_word)
    if not tokens:
        raise TrainingError(
            "The init_word is empty. Write what the subject is in one word, such as dog."
        )
    if len(tokens) > vectors:
        raise TrainingError(
            f"The init_word '{init_word}' is {len(tokens)} tokens of the text encoder, but vectors "
            f"is {vectors}. Choose a simpler word, or set vectors to {len(tokens)} or more."
        )
    return text.embed(torch.tensor(tokens + tokens[-1:] * (vectors - len(tokens))))
