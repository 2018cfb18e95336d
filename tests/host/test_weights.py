"""Weights of a MODEL without and with patches."""

import pytest
import torch
from personalize.host.base_models import base_of_model
from personalize.host.weights import (
    add_differences,
    own_projections,
    own_weights,
    weight_key,
    weight_shapes,
)
from personalize.tests.devices import here

pytestmark = pytest.mark.host


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


PATH = "middle_block.1.transformer_blocks.0.attn2.to_k"


@torch.inference_mode()
def loaded(model):
    from comfy.model_management import load_models_gpu

    load_models_gpu([model], force_full_load=True)
    return here(model.get_model_object(weight_key(PATH))).float().clone()


def test_the_own_weights_are_those_without_patches(tiny):
    own = loaded(tiny.model)
    model = tiny.model.clone()
    add_differences(model, {PATH: torch.ones_like(own)}, 0.5)
    assert torch.allclose(loaded(model), own + 0.5, atol=1e-2)
    assert torch.equal(own_weights(model, [PATH, "no.such.layer"])[PATH], own)
    assert set(own_weights(model, [PATH, "no.such.layer"])) == {PATH}
    assert weight_shapes(model, [PATH, "no.such.layer"]) == {PATH: tuple(own.shape)}
    assert torch.equal(loaded(tiny.model), own)


def test_differences_add_up_with_other_patches(tiny_sd1):
    own = loaded(tiny_sd1.model)
    model = tiny_sd1.model.clone()
    add_differences(model, {PATH: torch.ones_like(own)}, 0.5)
    model.add_patches({weight_key(PATH): ("diff", (torch.ones_like(own),))}, 2.0)
    assert torch.allclose(loaded(model), own + 2.5, atol=1e-2)


def test_the_own_projections_are_those_of_the_base(tiny):
    layers = base_of_model(tiny.model).projections(tiny.model.model.diffusion_model)
    own = own_projections(tiny.model)
    assert list(own) and set(own) == set(layers)
    assert all(weight.dtype == torch.float32 for weight in own.values())
