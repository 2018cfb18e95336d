"""Random models that the host takes for real ones."""

import pytest
import torch
from personalize.bench import random_weights
from personalize.bench.random_weights import (
    UNET,
    VAE,
    sd15_shapes,
    vae_shapes,
    vision_shapes,
    vit_l,
)
from safetensors.torch import load_file

pytestmark = pytest.mark.host


def test_the_host_sees_an_sd15():
    from comfy import model_detection, supported_models

    sizes = sd15_shapes() | vae_shapes()
    empty = {key: torch.empty(size, device="meta") for key, size in sizes.items()}
    found = model_detection.model_config_from_unet(empty, UNET)
    assert type(found) is supported_models.SD15
    vae = {key.removeprefix(VAE) for key in sizes if key.startswith(VAE)}
    assert {"encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight"} <= vae
    parameters = sum(size.numel() for key, size in sizes.items() if key.startswith(UNET))
    assert parameters == pytest.approx(860e6, rel=0.01)  # of SD1.5's UNet


def test_the_vision_encoder_is_vit_l():
    parameters = sum(size.numel() for size in vision_shapes(vit_l()).values())
    assert parameters == pytest.approx(304e6, rel=0.01)


def test_weights_are_finite_and_of_a_sound_size(tmp_path):
    from personalize.tests import elite_models

    random_weights.make_vision(tmp_path / "vision.safetensors", elite_models.VISION)
    weights = load_file(tmp_path / "vision.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float16}
    matrix = weights["vision_model.encoder.layers.0.mlp.fc1.weight"].float()
    assert matrix.std().item() == pytest.approx(matrix.shape[1] ** -0.5, rel=0.1)
    assert all(torch.isfinite(w).all() for w in weights.values())
