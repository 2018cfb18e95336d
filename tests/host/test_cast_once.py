"""Weights that are cast once compute the same, and the user's own come back."""

import pytest
import torch
from personalize.host.backbone import Backbone, Precision
from personalize.tests.conftest import load_tiny
from personalize.tests.host.test_weight_kinds import load_fp8
from personalize.tests.training.test_parity import (
    LATENTS,
    cross_init,
    loss_and_gradient,
    make_batch,
)

pytestmark = pytest.mark.host
PRECISION = Precision.BF16


def types_of(backbone):
    unet, text = backbone._model.model.diffusion_model, backbone.text.towers[0].text_model
    return unet.middle_block[1].proj_in.weight.dtype, text.encoder.layers[0].mlp.fc1.weight.dtype


@pytest.mark.parametrize("load", [load_tiny, load_fp8], ids=["as loaded", "fp8"])
def test_it_changes_no_bit_and_ends_with_the_session(tiny_sd1, load):
    tiny = load(tiny_sd1.path, "sd1")
    backbone, batch = Backbone(tiny.model, tiny.clip, precision=PRECISION), make_batch()
    with backbone.session(LATENTS):
        own, needed = types_of(backbone), backbone.cast_bytes()
        learner = cross_init(backbone)
        expected = loss_and_gradient(backbone, learner, batch)
        backbone.cast_once()
        assert types_of(backbone) == (torch.bfloat16, torch.float32) != own
        assert needed > 0 == backbone.cast_bytes()
        found = loss_and_gradient(backbone, learner, batch)
        with backbone.paused():
            assert types_of(backbone) == own
        assert types_of(backbone) == (torch.bfloat16, torch.float32)
        again = loss_and_gradient(backbone, learner, batch)
    assert types_of(backbone) == own
    for loss, gradient in (found, again):
        assert torch.equal(loss, expected[0]) and torch.equal(gradient, expected[1])


def test_what_is_trained_stays(tiny_sd1):
    backbone = Backbone(tiny_sd1.model, tiny_sd1.clip, precision=PRECISION)
    with backbone.session(LATENTS):
        trained = backbone.open_projections()
        backbone.cast_once()
        for path, weight in trained.items():
            layer = backbone._model.model.diffusion_model.get_submodule(path)
            assert layer.weight is weight and weight.dtype == torch.float32
