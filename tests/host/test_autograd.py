"""Gradients through modules whose weights are inference tensors, on the same memory."""

import pytest
import torch

pytestmark = pytest.mark.host
from personalize.host.autograd import differentiable, is_hybrid, replaced_weights  # noqa: E402


@pytest.fixture
def layer():
    """A layer as the host loads one."""
    with torch.inference_mode():
        return torch.nn.Linear(3, 2)


def test_autograd_saves_the_weights_while_it_lasts_and_copies_none(layer):
    own, x = layer.weight, torch.ones(1, 3, requires_grad=True)
    assert own.is_inference()
    with differentiable(layer):
        assert not layer.weight.is_inference() and not layer.weight.requires_grad
        assert layer.weight.data_ptr() == own.data_ptr()
        layer(x).square().sum().backward()
    assert layer.weight is own and torch.isfinite(x.grad).all() and x.grad.any()


def test_a_weight_that_was_replaced_meanwhile_stays(layer):
    other = torch.nn.Parameter(torch.zeros(2, 3), requires_grad=False)
    with differentiable(layer):
        layer.weight = other  # as the host does when it patches
    assert layer.weight is other and layer.bias.is_inference()


def test_a_weight_that_was_moved_outside_of_inference_mode_is_told_and_mended():
    with torch.inference_mode():
        moved = torch.nn.Linear(3, 2)
    moved.weight.data = torch.ones(2, 3)  # outside of it: neither inference tensor nor usable
    if not is_hybrid(moved.weight):
        pytest.skip("this torch makes no hybrids")
    x = torch.ones(1, 3, requires_grad=True)
    with differentiable(moved):
        moved(x).sum().backward()
    assert torch.equal(x.grad, torch.full((1, 3), 2.0))


@pytest.mark.parametrize("tensor", [torch.ones(2), torch.ones(2, requires_grad=True)])
def test_ordinary_tensors_are_no_hybrids(tensor):
    assert not is_hybrid(tensor) and not is_hybrid(tensor.detach())
    with torch.inference_mode():
        assert not is_hybrid(torch.ones(2))


def test_layers_compute_with_weights_that_learn_and_keep_their_own():
    from comfy import ops

    layer = ops.manual_cast.Linear(3, 2, bias=False)
    layer.weight = own = torch.nn.Parameter(torch.zeros(2, 3).half(), requires_grad=False)
    trained = torch.nn.Parameter(torch.ones(2, 3))
    with replaced_weights({layer: trained}):
        out = layer(torch.ones(1, 3))
        out.sum().backward()
    assert out.tolist() == [[3.0, 3.0]] and torch.equal(trained.grad, torch.ones(2, 3))
    assert layer.weight is own and not layer(torch.ones(1, 3)).any()
