"""ELITE's local stage (Wei et al. 2023): the mapper to local features and its projections are
trained, all else is frozen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...concepts.elite import (
    EliteEncoder,
    by_path,
    map_patches,
    map_words,
    mask_patches,
    weighted,
    word_ratio,
)
from ...host.attention import Place, Replace, cross_attention, patch_place
from ...host.backbone import Backbone
from ..batch import squared_errors
from ..prompts import PromptTable
from ..zoom import visible_mean
from .captions import captions
from .config import EliteConfig
from .global_stage import EliteBatch
from .weights import (
    by_block,
    check_blocks,
    elite_stage,
    projections_to_train,
    start_mapper,
)


class LocalElite:
    """The mapper to local features and their projections in training; the global stage frozen."""

    def __init__(self, config: EliteConfig, backbone: Backbone, start: EliteEncoder) -> None:
        self.config, self.start = config, start
        self.table = PromptTable(backbone.text, captions(config, 1))
        self.word_rows = self.table.rows_of(0).to(backbone.device)
        frozen = projections_to_train(backbone, start.global_stage)
        for weight in frozen.values():
            weight.requires_grad_(False)
        self.words_mapper = {k: _leaf(w, backbone) for k, w in start.global_stage.mapper.items()}
        stage = start.local_stage
        shape, width = start.vision, start.text_width
        self.mapper = start_mapper(config, shape, width, stage, backbone.device)
        own = by_block(frozen)
        if stage is not None:
            check_blocks(own, stage.projections)
            own = stage.projections
        leaves = {
            path: [_leaf(weight, backbone).requires_grad_(True) for weight in pair]
            for path, pair in own.items()
        }
        self.projections = {path: (to_k, to_v) for path, (to_k, to_v) in leaves.items()}

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {**self.mapper, **by_path(self.projections)}

    @property
    def shares(self) -> dict[str, float]:
        return dict.fromkeys(by_path(self.projections), self.config.projections_share)

    def loss(self, backbone: Backbone, batch: EliteBatch) -> dict[str, Tensor]:
        """L_LDM where the picture is visible + 0.0001 mean |V_l|, with lambda = 1 (eq. 7)."""
        with torch.no_grad():
            words = map_words(self.words_mapper, batch.features, count=1)
            context = backbone.text.encode(self.table.embed(backbone.text, batch.prompt, words))
        local = mask_patches(map_patches(self.mapper, batch.local), batch.masks)
        rows = self.word_rows[batch.prompt]
        parts = {
            patch_place(path): LocalTerm(local @ to_k.T, local @ to_v.T, rows)
            for path, (to_k, to_v) in self.projections.items()
        }
        errors = squared_errors(backbone, batch, context, dict[Place, Replace](parts))
        channels = errors.shape[1] if self.config.sum_channels else 1
        values = torch.stack([part.values.abs().mean() for part in parts.values()]).mean()
        return {
            "denoising": visible_mean(errors, batch.visible) * channels,
            "values": self.config.values_weight * values,
        }

    def to_encoder(self, read: Callable[[Tensor], Tensor] = torch.detach) -> EliteEncoder:
        """What was learned so far, with the global stage it was learned on."""
        stage, start = elite_stage(self.mapper, self.projections, read), self.start
        return EliteEncoder(
            start.name, start.base, start.text_width, start.vision, start.global_stage, stage
        )


@dataclass(frozen=True)
class LocalTerm:
    """One block's cross attention with R Attention(Q, K_l, V_l) added (eq. 6).

    keys, values: (B, P, channels); rows: of the word in each prompt, (B,)
    """

    keys: Tensor
    values: Tensor
    rows: Tensor

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
        ratio = word_ratio(q, k, self.rows[:, None], extra_options["n_heads"])
        keys, values = self.keys.to(q.dtype), self.values.to(q.dtype)
        local = cross_attention(q, keys, values, extra_options)
        return cross_attention(q, k, v, extra_options) + weighted(local, ratio)


def _leaf(tensor: Tensor, backbone: Backbone) -> Tensor:
    return tensor.detach().to(backbone.device, torch.float32, copy=True)
