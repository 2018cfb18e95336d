"""ELITE's global stage (Wei et al. 2023): the mapper to words and the UNet's keys and values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...concepts.elite import BRANCHES, EliteEncoder, ProjectionPairs, map_words
from ...concepts.vision import VisionShape
from ...host.backbone import Backbone
from ..batch import Batch, denoising_loss
from ..prompts import PromptTable
from .captions import captions
from .config import EliteConfig
from .weights import by_block, elite_stage, projections_to_train, start_mapper

CONTINUED = "trained"  # name of an encoder that has no other


@dataclass(frozen=True, kw_only=True)
class EliteBatch(Batch):
    """features: (5, B, 1 + P, width) of what the encoder sees

    local: the same of the masked subject, with masks (B, 1, h, w); of the local stage only
    visible: (B, 1, h, w), where the latents show the picture, 0 beside a zoomed-out one
    """

    features: Tensor
    visible: Tensor
    local: Tensor
    masks: Tensor

    def cut(self, name: str, value: Any, rows: slice) -> Any:
        return value[:, rows] if name in ("features", "local") else super().cut(name, value, rows)


class EliteWords:
    """The mapper to words in training, and the encoder that it makes with some keys and values."""

    def __init__(
        self,
        config: EliteConfig,
        backbone: Backbone,
        shape: VisionShape,
        start: EliteEncoder | None = None,
    ) -> None:
        self.config, self.shape, self.start = config, shape, start
        self.base, self.width = backbone.base.key, backbone.width
        self.stage = start.global_stage if start else None
        self.mapper = start_mapper(config, shape, self.width, self.stage, backbone.device)

    def encoder(
        self, projections: ProjectionPairs, read: Callable[[Tensor], Tensor]
    ) -> EliteEncoder:
        """read: gives what is kept of a parameter, such as its average."""
        stage = elite_stage(self.mapper, projections, read)
        name = self.start.name if self.start else CONTINUED
        return EliteEncoder(name, self.base, self.width, self.shape, stage)


class GlobalElite(EliteWords):
    """The mapper to words and the keys and values of all cross attentions, in training."""

    def __init__(
        self,
        config: EliteConfig,
        backbone: Backbone,
        shape: VisionShape,
        start: EliteEncoder | None = None,
    ) -> None:
        super().__init__(config, backbone, shape, start)
        self.table = PromptTable(backbone.text, captions(config, BRANCHES))
        self.projections = projections_to_train(backbone, self.stage)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {**self.mapper, **self.projections}

    @property
    def shares(self) -> dict[str, float]:
        """Factors of the learning rate, by name."""
        return dict.fromkeys(self.projections, self.config.projections_share)

    def loss(self, backbone: Backbone, batch: EliteBatch) -> dict[str, Tensor]:
        """L_LDM + 0.01 mean |v|, all five words at the subject's place (eq. 3)."""
        words = map_words(self.mapper, batch.features)
        context = backbone.text.encode(self.table.embed(backbone.text, batch.prompt, words))
        return {
            "denoising": denoising_loss(backbone, batch, context),
            "words": self.config.words_weight * words.abs().mean(),
        }

    def to_encoder(self, read: Callable[[Tensor], Tensor] = torch.detach) -> EliteEncoder:
        """What was learned so far."""
        return self.encoder(by_block(self.projections), read)
