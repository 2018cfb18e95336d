"""Key and value weights of a UNet's cross attention in training, whole or at a low rank."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Generator, Tensor

from ..concepts.differences import difference_tensors, factor_tensors
from ..host.backbone import Backbone
from ..host.low_rank import Product


class Projections(Protocol):
    """What is trained of the keys and values of every cross attention."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Trainable fp32 leaves by name."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """How far each weight has gone, as a concept holds it."""
        ...


class WholeProjections:
    """The weights themselves, by path, and where they started."""

    def __init__(self, backbone: Backbone) -> None:
        self.parameters: dict[str, Tensor] = dict(backbone.open_projections())
        # on the CPU: a GPU has better use for as much memory as all these weights
        self._start = {p: w.detach().to("cpu", copy=True) for p, w in self.parameters.items()}

    def tensors(self) -> dict[str, Tensor]:
        return difference_tensors(
            {path: w.detach().cpu() - self._start[path] for path, w in self.parameters.items()}
        )


class LowRankProjections:
    """A product for each weight, which stays as it is: W + up @ down (Hu et al. 2022, LoRA).

    parameters: ``<path>.up`` (out, r) and ``<path>.down`` (r, in); a rank above that of the weight
        itself is cut to it
    """

    def __init__(self, backbone: Backbone, rank: int, generator: Generator) -> None:
        self._products = {
            path: _started(*shape, rank, generator, backbone.device)
            for path, shape in backbone.projection_shapes().items()
        }
        backbone.add_products(self._products)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {
            f"{path}.{name}": factor
            for path, product in self._products.items()
            for name, factor in (("up", product.up), ("down", product.down))
        }

    def tensors(self) -> dict[str, Tensor]:
        tensors = {}
        for path, product in self._products.items():
            tensors |= factor_tensors(path, *_balanced(product.up.detach(), product.down.detach()))
        return tensors


def open_projections(backbone: Backbone, rank: int, seed: int) -> Projections:
    """Train the keys and values of every cross attention from here to the session's end.

    rank: of their changes, 0 for whole weights; seed: of the products' starts
    """
    if not rank:
        return WholeProjections(backbone)
    return LowRankProjections(backbone, rank, Generator().manual_seed(seed))


def _started(
    rows: int, columns: int, rank: int, generator: Generator, device: torch.device
) -> Product:
    """A product that is 0: up is.

    down has numbers of variance 1 / r, where LoRA's usual start has 1 / (3 columns): so a step of
    Adam moves each number of the product about as far as it would move one of the whole weight, and
    the learning rates of whole weights stay right.
    """
    rank = min(rank, rows, columns)
    down = torch.randn(rank, columns, generator=generator) / rank**0.5
    up = torch.zeros(rows, rank)
    return Product(*(f.to(device).requires_grad_(True) for f in (up, down)))


def _balanced(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """The same product of factors of one size, fp16: small numbers would lose digits there."""
    sizes = [factor.square().mean().sqrt() for factor in (up, down)]
    ratio = (sizes[1] / sizes[0]).sqrt() if all(sizes) else 1.0
    return _half(up * ratio), _half(down / ratio)


def _half(factor: Tensor) -> Tensor:
    return factor.to("cpu", torch.float16).contiguous()
