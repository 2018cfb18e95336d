"""A start for ELITE's words that its paper does not have: CLIP compares pictures and prompts.

A mapper that starts from nothing learns slowly from noise predictions alone, since what a prompt
says changes them by a few per cent only. Here its words are learned so that a prompt with them has
CLIP's embedding of the subject (InfoNCE of van den Oord et al. 2018, as CLIP itself was trained).
No UNet takes part. The global stage goes on from the result.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from ...concepts.elite import BRANCHES, EliteEncoder, ProjectionPairs, map_words
from ...concepts.errors import BaseModelError
from ...concepts.vision import VisionShape
from ...host.backbone import Backbone
from ..prompts import PromptTable
from .captions import captions
from .config import EliteConfig
from .global_stage import EliteWords
from .weights import check_blocks, projections_of

SCALE = 30.0  # of cosines; CLIP's own is learned, and 100 in the end


@dataclass(frozen=True)
class AlignmentBatch:
    """features: (5, B, 1 + P, width) of what the encoder sees; prompt: numbers of captions, (B,)

    subjects: CLIP's embeddings of the subjects on white, (B, e)
    """

    features: Tensor
    prompt: Tensor
    subjects: Tensor


class AlignedElite(EliteWords):
    """The mapper to words in training, the UNet's keys and values as they are.

    The checkpoint must have its text encoder's projection (`host.models.check_projection`).
    """

    def __init__(
        self,
        config: EliteConfig,
        backbone: Backbone,
        shape: VisionShape,
        start: EliteEncoder | None = None,
    ) -> None:
        super().__init__(config, backbone, shape, start)
        self.tables = [PromptTable(backbone.text, captions(config, n)) for n in (BRANCHES, 1)]
        self.projections: ProjectionPairs = projections_of(backbone)
        if self.stage is not None:
            check_blocks(self.projections, self.stage.projections)
            self.projections = self.stage.projections

    @property
    def parameters(self) -> dict[str, Tensor]:
        return self.mapper

    @property
    def shares(self) -> dict[str, float]:
        return {}

    def loss(self, backbone: Backbone, batch: AlignmentBatch) -> dict[str, Tensor]:
        """Contrast of prompts and subjects, with all five words and with the primary one alone."""
        words = map_words(self.mapper, batch.features)
        contrasts = []
        for table in self.tables:
            prompts = table.embed(backbone.text, batch.prompt, words)
            embeddings = backbone.text.embedding(prompts).to(batch.subjects.device)
            contrasts.append(contrast(embeddings, batch.subjects))
        return {
            "contrast": torch.stack(contrasts).mean(),
            "words": self.config.words_weight * words.abs().mean(),
        }

    def to_encoder(self, read: Callable[[Tensor], Tensor] = torch.detach) -> EliteEncoder:
        """What was learned so far."""
        return self.encoder(self.projections, read)


def contrast(prompts: Tensor, subjects: Tensor) -> Tensor:
    """Mean cross entropy of finding each prompt's subject and each subject's prompt.

    prompts, subjects: CLIP's embeddings, (B, e)
    """
    if prompts.shape[1] != subjects.shape[1]:
        raise BaseModelError(
            f"The text encoder has CLIP embeddings of width {prompts.shape[1]}, the CLIP_VISION of "
            f"width {subjects.shape[1]}. The stage align needs the two halves of one CLIP."
        )
    cosines = SCALE * normalize(prompts, dim=-1) @ normalize(subjects, dim=-1).T
    own = torch.arange(len(cosines), device=cosines.device)
    return (cross_entropy(cosines, own) + cross_entropy(cosines.T, own)) / 2
