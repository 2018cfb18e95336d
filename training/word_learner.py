"""What Textual Inversion and Cross Initialization share: words in prompt templates, in training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..concepts.concept import Concept
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from .batch import Batch, denoising_loss
from .captions import caption_template, check_captions, fitting_pieces
from .learner import ConceptLearner
from .pictures import EncodedPictures
from .prompts import Piece, PromptTable, template_pieces
from .sources import Sources
from .templates import parse_templates


class WordLearner(ConceptLearner):
    """The trainable words of one concept, (n, d), and the prompts that they stand in: templates,
    and the captions of pictures that have one.

    words: where they start; subjects: what takes the place of ``{}`` in a template; of several, the
        first's prompts come first, and captions are the first's
    templates: none for those of the config
    """

    def __init__(
        self,
        config: Any,
        backbone: Backbone,
        pictures: Any,
        *,
        words: Tensor,
        subjects: Sequence[Sequence[Piece]],
        templates: Sequence[str] = (),
    ) -> None:
        super().__init__(config, backbone, pictures)
        self.words = words.detach().clone().requires_grad_(True)
        templates = templates or parse_templates(config.templates)
        prompts = [template_pieces(t, subject) for subject in subjects for t in templates]
        self.templates = len(templates)
        captioned = torch.full((len(pictures),), -1)
        room = len(backbone.text.pad([])) - 2
        for n, caption in enumerate(pictures.captions):
            if caption:
                template = caption_template(caption, config.placeholder, config.class_word)
                captioned[n] = len(prompts)
                pieces = fitting_pieces(
                    backbone.text, self.captioned_template(n, template), subjects[0], room
                )
                prompts.append(pieces)
        self.captioned = captioned.to(backbone.device)
        self.table = PromptTable(backbone.text, prompts)

    @classmethod
    def prepare(cls, config: Any, sources: Sources, backbone: Backbone) -> EncodedPictures:
        pictures = super().prepare(config, sources, backbone)
        return replace(pictures, captions=check_captions(sources.captions, len(pictures)))

    def captioned_template(self, picture: int, template: str) -> str:
        """What a picture's caption becomes, with ``{}`` for the subject."""
        return template

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"words": self.words}

    @property
    def prompts(self) -> int:
        return self.templates

    def loss(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """L_LDM, with a random template for each picture (Gal et al. 2022, eq. 2)."""
        return {"denoising": denoising_loss(backbone, batch, self.context(backbone, batch))}

    def context(self, backbone: Backbone, batch: Batch) -> Conditioning:
        """Conditioning of the batch's prompts."""
        return backbone.text.encode(
            self.table.embed(backbone.text, self.prompt_rows(batch), self.words)
        )

    def prompt_rows(self, batch: Batch) -> Tensor:
        """Rows of the prompt table, (B,): a picture's caption in the place of the template that was
        drawn for it. That is drawn all the same, so that captions change no other random number."""
        captioned = self.captioned[batch.index]
        return torch.where(captioned < 0, batch.prompt, captioned)

    def to_concept(self) -> Concept:
        return self.concept(words={"": self.words})
