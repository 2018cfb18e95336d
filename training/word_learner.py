"""What Textual Inversion and Cross Initialization share: words in prompt templates, in training."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from ..concepts.concept import Concept
from ..concepts.methods import Method
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from ..host.text_encoder import TextEncoder
from .batch import Batch, denoising_loss
from .config import TrainConfig
from .prompts import Piece, PromptTable, template_pieces
from .templates import parse_templates


class WordLearner:
    """The trainable words of one concept, (n, d), and the prompts that they stand in.

    subject: what takes the place of ``{}`` in a template
    """

    method: ClassVar[Method]

    def __init__(
        self,
        config: TrainConfig,
        text: TextEncoder,
        words: Tensor,
        subject: Sequence[Piece],
        class_word: str,
    ) -> None:
        self.base, self.width = text.base.key, text.width
        self.placeholder, self.class_word = config.placeholder, class_word
        self.words = words.detach().clone().requires_grad_(True)
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
        """L_LDM, with a random template for each picture (Gal et al. 2022, eq. 2)."""
        return {"denoising": denoising_loss(backbone, batch, self.context(backbone, batch))}

    def context(self, backbone: Backbone, batch: Batch) -> Conditioning:
        """Conditioning of the batch's prompts."""
        return backbone.text.encode(self.table.embed(backbone.text, batch.prompt, self.words))

    def to_concept(self) -> Concept:
        return Concept(
            method=self.method,
            base=self.base,
            text_width=self.width,
            placeholder=self.placeholder,
            class_word=self.class_word,
            words={"": self.words.detach()},
        )
