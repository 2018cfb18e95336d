"""Textual Inversion (Gal et al. 2022): new words, of which only the embeddings are trained."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..concepts.concept import MAX_VECTORS, Concept, Method
from ..concepts.errors import TrainingError
from ..host.backbone import Backbone
from ..host.text_encoder import TextEncoder
from .batch import Batch, denoising_loss
from .config import TrainConfig
from .prompts import PromptTable, template_pieces
from .templates import parse_templates


@dataclass(frozen=True, kw_only=True)
class TextualInversionConfig(TrainConfig):
    """init_word: the word whose embedding the new ones start from, and the class word."""

    init_word: str
    vectors: int = 1
    steps: int = 5000
    batch_size: int = 1
    learning_rate: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.vectors < MAX_VECTORS:
            raise TrainingError(
                f"Expected 1 to {MAX_VECTORS - 1} vectors, got {self.vectors}. A prompt holds 75 "
                "tokens, and some must be left for its other words; 1 is usual."
            )


class TextualInversion:
    """The trainable words of one concept, (vectors, d)."""

    def __init__(self, config: TextualInversionConfig, backbone: Backbone) -> None:
        text = backbone.text
        self.config, self.base, self.width = config, text.tower.base.key, text.width
        self.words = initial_words(text, config.init_word, config.vectors).requires_grad_(True)
        subject = [range(config.vectors)]
        self.table = PromptTable(
            text, [template_pieces(t, subject) for t in parse_templates(config.templates)]
        )

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"words": self.words}

    @property
    def prompts(self) -> int:
        return len(self.table)

    def loss(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """L_LDM (eq. 2), with a random template for each picture."""
        context = backbone.text.encode(self.table.embed(backbone.text, batch.prompt, self.words))
        return {"denoising": denoising_loss(backbone, batch, context)}

    def to_concept(self) -> Concept:
        return Concept(
            method=Method.TEXTUAL_INVERSION,
            base=self.base,
            text_width=self.width,
            placeholder=self.config.placeholder,
            class_word=self.config.init_word,
            words={"": self.words.detach()},
        )


def initial_words(text: TextEncoder, init_word: str, vectors: int) -> Tensor:
    """Embeddings of the initial word, (vectors, d); its last token is repeated as needed."""
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
    return text.embed(_ids(tokens + tokens[-1:] * (vectors - len(tokens)))).clone()


def _ids(tokens: list[int]) -> Tensor:
    return torch.tensor(tokens)
