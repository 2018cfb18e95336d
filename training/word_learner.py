"""What Textual Inversion and Cross Initialization share: words in prompt templates, in training."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..concepts.concept import Concept
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from .batch import Batch, denoising_loss
from .learner import ConceptLearner
from .prompts import Piece, PromptTable, template_pieces
from .templates import parse_templates


class WordLearner(ConceptLearner):
    """The trainable words of one concept, (n, d), and the prompts that they stand in.

    words: where they start; subject: what takes the place of ``{}`` in a template
    """

    def __init__(
        self,
        config: Any,
        backbone: Backbone,
        pictures: Any,
        *,
        words: Tensor,
        subject: Sequence[Piece],
    ) -> None:
        super().__init__(config, backbone, pictures)
        self.words = words.detach().clone().requires_grad_(True)
        self.table = PromptTable(
            backbone.text, [template_pieces(t, subject) for t in parse_templates(config.templates)]
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
        return self.concept(words={"": self.words})
