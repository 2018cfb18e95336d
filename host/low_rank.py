"""Changes of weights at a low rank, added to what the host's layers compute."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear

from .autograd import hooked


@dataclass(frozen=True)
class Product:
    """A change of a weight as a product: up (out, r) and down (r, in)."""

    up: Tensor
    down: Tensor

    def of(self, x: Tensor) -> Tensor:
        """What the change adds for inputs (..., in), in their type; the product is never made."""
        return linear(linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))


@contextmanager
def added_products(products: Mapping[nn.Module, Product]) -> Iterator[None]:
    """A block in which layers compute with their weight + up @ down.

    Why not another weight, as for whole ones: it would be as large as the layer's own, and so would
    be its gradient. Hooks on a layer's result also leave alone what type its weight has.
    """
    with hooked({layer: _adding(product) for layer, product in products.items()}):
        yield


def _adding(product: Product) -> Any:
    def add(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + product.of(inputs[0])

    return add
