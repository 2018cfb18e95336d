"""ELITE (Wei et al. 2023): training of an encoder that turns a picture into a concept.

The global stage trains the mapper to words together with the UNet's keys and values; the local
stage trains the mapper to local features and projections of its own, all else frozen.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ...concepts.elite import (
    LAYERS,
    LINEAR,
    EliteEncoder,
    EliteStage,
    Projections,
    VisionShape,
    map_patches,
    map_words,
    mapper_shapes,
    mask_patches,
    weighted,
    word_ratio,
)
from ...concepts.errors import BaseModelError
from ...host.attention import Place, Replace, cross_attention, patch_place
from ...host.backbone import Backbone
from ..batch import Batch, denoising_loss, squared_errors
from ..prompts import PromptTable, template_pieces
from ..templates import parse_templates
from .config import EliteConfig, Stage

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

    def encoder(self, projections: Projections, read: Callable[[Tensor], Tensor]) -> EliteEncoder:
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
        self.table = PromptTable(backbone.text, captions(config, LAYERS))
        self.projections = open_projections(backbone, self.stage)

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
        return self.encoder(_by_block(self.projections), read)


class LocalElite:
    """The mapper to local features and their projections in training; the global stage frozen."""

    def __init__(self, config: EliteConfig, backbone: Backbone, start: EliteEncoder) -> None:
        self.config, self.start = config, start
        self.table = PromptTable(backbone.text, captions(config, 1))
        self.word_rows = self.table.rows_of(0)
        frozen = open_projections(backbone, start.global_stage)
        for weight in frozen.values():
            weight.requires_grad_(False)
        self.words_mapper = {k: _leaf(w, backbone) for k, w in start.global_stage.mapper.items()}
        stage = start.local_stage
        shape, width = start.vision, start.text_width
        self.mapper = start_mapper(config, shape, width, stage, backbone.device)
        own = _by_block(frozen)
        if stage is not None:
            check_blocks(own, stage.projections)
            own = stage.projections
        self.projections = {
            path: tuple(_leaf(w, backbone).requires_grad_(True) for w in pair)
            for path, pair in own.items()
        }

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {**self.mapper, **_by_weight(self.projections)}

    @property
    def shares(self) -> dict[str, float]:
        return dict.fromkeys(_by_weight(self.projections), self.config.projections_share)

    def loss(self, backbone: Backbone, batch: EliteBatch) -> dict[str, Tensor]:
        """L_LDM where the picture is visible + 0.0001 mean |V_l|, with lambda = 1 (eq. 7)."""
        with torch.no_grad():
            words = map_words(self.words_mapper, batch.features, count=1)
            context = backbone.text.encode(self.table.embed(backbone.text, batch.prompt, words))
        local = mask_patches(map_patches(self.mapper, batch.local), batch.masks)
        rows = self.word_rows[batch.prompt].to(backbone.device)
        parts = {
            patch_place(path): LocalTerm(local @ to_k.T, local @ to_v.T, rows)
            for path, (to_k, to_v) in self.projections.items()
        }
        errors = squared_errors(backbone, batch, context, dict[Place, Replace](parts))
        values = torch.stack([part.values.abs().mean() for part in parts.values()]).mean()
        return {
            "denoising": visible_mean(errors, batch.visible),
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
        ratio = word_ratio(q, k, self.rows, extra_options["n_heads"])
        keys, values = self.keys.to(q.dtype), self.values.to(q.dtype)
        local = cross_attention(q, keys, values, extra_options)
        return cross_attention(q, k, v, extra_options) + weighted(local, ratio)


def visible_mean(errors: Tensor, visible: Tensor) -> Tensor:
    """Mean over each sample's visible latents, then over the samples; (B, C, h, w), (B, 1, h, w).

    So every sample counts alike, however little of it is visible.
    """
    visible = visible.expand_as(errors)
    return ((errors * visible).sum(dim=(1, 2, 3)) / visible.sum(dim=(1, 2, 3))).mean()


ZOOMS = ("", "a far away", "very small", "zoomed in", "close up")
"""What a prompt says of how a picture was zoomed, instead of its article; "" for not at all."""


def captions(config: EliteConfig, words: int) -> list[list[Any]]:
    """All prompts, as `PromptTable` takes them: every template, for one zoom after another."""
    templates = parse_templates(config.templates)
    zooms = ZOOMS if config.stage is Stage.LOCAL and config.zoom else ZOOMS[:1]
    texts = [zoomed(template, zoom) for zoom in zooms for template in templates]
    return [template_pieces(text, [range(words)]) for text in texts]


def zoomed(template: str, zoom: str) -> str:
    """``a photo of a {}`` -> ``a far away photo of a {}``."""
    first, _, rest = template.partition(" ")
    if not zoom:
        return template
    return f"{zoom} {rest if first.lower() in ('a', 'an', 'the') else template}"


def start_mapper(
    config: EliteConfig,
    shape: VisionShape,
    text_width: int,
    stage: EliteStage | None,
    device: torch.device,
) -> dict[str, Tensor]:
    """Trainable leaves: those of a stage, or as linear layers and norms start in torch."""
    if stage is not None:
        tensors = dict(stage.mapper)
    else:
        generator = Generator().manual_seed(config.train_seed)
        shapes = mapper_shapes(shape.width, text_width)
        tensors = {name: _start(name, size, shapes, generator) for name, size in shapes.items()}
        for name in tensors:
            if f".{LINEAR[-1]}." in name:
                tensors[name] *= config.start_scale
    return {
        name: tensor.detach().to(device, torch.float32, copy=True).requires_grad_(True)
        for name, tensor in tensors.items()
    }


def _start(
    name: str, size: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]], generator: Generator
) -> Tensor:
    stem, _, kind = name.rpartition(".")
    weight = shapes[f"{stem}.weight"]
    if len(weight) == 1:  # a norm
        return torch.ones(size) if kind == "weight" else torch.zeros(size)
    return (torch.rand(size, generator=generator) * 2 - 1) / math.sqrt(weight[1])


def open_projections(backbone: Backbone, stage: EliteStage | None) -> dict[str, Tensor]:
    """Trainable keys' and values' weights by path, the model's own or those of a stage."""
    weights: dict[str, Tensor] = dict(backbone.open_projections())
    if stage is not None:
        check_blocks(_by_block(weights), stage.projections)
        with torch.no_grad():
            for path, weight in _by_weight(stage.projections).items():
                weights[path].copy_(weight)
    return weights


def own_projections(backbone: Backbone) -> dict[str, tuple[Tensor, Tensor]]:
    """The model's keys' and values' weights by block."""
    return _by_block(backbone.open_projections())


def check_blocks(model: Projections, encoder: Projections) -> None:
    """Refuse an encoder of another UNet."""
    shapes = [{p: [w.shape for w in pair] for p, pair in s.items()} for s in (model, encoder)]
    if shapes[0] != shapes[1]:
        raise BaseModelError(
            f"The ELITE encoder has projections for {len(encoder)} cross attentions, this "
            f"MODEL has {len(model)}, and their places or sizes differ. Go on with the model that "
            "the encoder was trained on."
        )


def _by_block(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    paths = [path.removesuffix(".attn2.to_k") for path in weights if path.endswith(".attn2.to_k")]
    return {path: (weights[f"{path}.attn2.to_k"], weights[f"{path}.attn2.to_v"]) for path in paths}


def _by_weight(projections: Mapping[str, tuple[Tensor, ...]]) -> dict[str, Tensor]:
    return {
        f"{path}.attn2.to_{letter}": weight
        for path, pair in projections.items()
        for letter, weight in zip("kv", pair, strict=True)
    }


def _leaf(tensor: Tensor, backbone: Backbone) -> Tensor:
    return tensor.detach().to(backbone.device, torch.float32, copy=True)


def elite_stage(
    mapper: Mapping[str, Tensor],
    projections: Mapping[str, tuple[Tensor, ...]],
    read: Callable[[Tensor], Tensor],
) -> EliteStage:
    """A stage of what is kept of its parameters, on the CPU."""

    def kept(parameter: Tensor) -> Tensor:
        return read(parameter).detach().to("cpu", copy=True)

    return EliteStage(
        {name: kept(parameter) for name, parameter in mapper.items()},
        {path: (kept(pair[0]), kept(pair[1])) for path, pair in projections.items()},
    )
