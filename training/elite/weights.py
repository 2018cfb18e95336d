"""The weights that an ELITE training starts from, and what is kept of them."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor

from ...concepts.elite import LINEAR, EliteStage, ProjectionPairs, by_path, mapper_shapes
from ...concepts.errors import BaseModelError
from ...concepts.vision import VisionShape
from ...host.backbone import Backbone
from .config import EliteConfig


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


def projections_to_train(backbone: Backbone, stage: EliteStage | None) -> dict[str, Tensor]:
    """Trainable keys' and values' weights by path, the model's own or those of a stage."""
    weights: dict[str, Tensor] = dict(backbone.open_projections())
    if stage is not None:
        check_blocks(by_block(weights), stage.projections)
        with torch.no_grad():
            for path, weight in by_path(stage.projections).items():
                weights[path].copy_(weight)
    return weights


def projections_of(backbone: Backbone) -> dict[str, tuple[Tensor, Tensor]]:
    """The model's keys' and values' weights by block."""
    return by_block(backbone.open_projections())


def check_blocks(model: ProjectionPairs, encoder: ProjectionPairs) -> None:
    """Refuse an encoder of another UNet."""
    shapes = [{p: [w.shape for w in pair] for p, pair in s.items()} for s in (model, encoder)]
    if shapes[0] != shapes[1]:
        raise BaseModelError(
            f"The ELITE encoder has projections for {len(encoder)} cross attentions, this "
            f"MODEL has {len(model)}, and their places or sizes differ. Go on with the model that "
            "the encoder was trained on."
        )


def by_block(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Undoes `by_path`: (to_k, to_v) by transformer block."""
    paths = [path.removesuffix(".attn2.to_k") for path in weights if path.endswith(".attn2.to_k")]
    return {path: (weights[f"{path}.attn2.to_k"], weights[f"{path}.attn2.to_v"]) for path in paths}


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
