"""Products added to layers: as a dense change, inside their block alone."""

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.host


def test_a_product_is_the_dense_change_and_ends_with_its_block():
    from personalize.host.low_rank import Product, added_products

    generator = torch.Generator().manual_seed(0)
    up, down, x = (torch.randn(*s, generator=generator) for s in ((5, 2), (2, 3), (4, 7, 3)))
    layer = nn.Linear(3, 5)
    before = layer(x)
    with added_products({layer: Product(up, down)}):
        inside = layer(x)
    assert torch.allclose(inside, before + x @ (up @ down).T, atol=1e-5)
    assert torch.equal(layer(x), before)


def test_a_product_computes_in_the_type_of_its_input():
    from personalize.host.low_rank import Product

    added = Product(torch.ones(5, 2), torch.ones(2, 3)).of(torch.ones(1, 3, dtype=torch.float16))
    assert added.dtype == torch.float16 and added.shape == (1, 5)
