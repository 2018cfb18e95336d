"""Weights of other types and layouts than a plain checkpoint's: fp8, quantised, channels last."""

import json

import pytest
import torch
from personalize.tests.conftest import load_tiny
from personalize.tests.moving_host import sampled
from personalize.tests.trainers import run_trainer
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

FP8 = torch.float8_e4m3fn
UNET = "model.diffusion_model."
METHODS = pytest.mark.parametrize("trainer", ["textual inversion", "custom diffusion", "detex"])


def rewritten(path, folder, change):
    """A copy of a checkpoint whose UNet's tensors went through a function of key and tensor."""
    tensors = {}
    for key, tensor in load_file(path).items():
        tensors |= change(key, tensor) if key.startswith(UNET) else {key: tensor}
    name = folder / f"{change.__name__}.safetensors"
    save_file(tensors, name)
    return name


def rounded_to_fp8(key, tensor):
    return {key: tensor.to(FP8).to(tensor.dtype)}


def _scale(weight):
    return weight.float().abs().amax() / torch.finfo(FP8).max


def _is_matrix(key, tensor):
    return key.endswith(".weight") and tensor.ndim == 2


def quantised(key, tensor):
    """As the host's scaled fp8 checkpoints are."""
    if not _is_matrix(key, tensor):
        return {key: tensor}
    stem, kind = key.removesuffix("weight"), json.dumps({"format": "float8_e4m3fn"}).encode()
    return {
        key: (tensor.float() / _scale(tensor)).to(FP8),
        f"{stem}weight_scale": _scale(tensor),
        f"{stem}comfy_quant": torch.tensor(list(kind), dtype=torch.uint8),
    }


def rounded_as_quantised(key, tensor):
    if not _is_matrix(key, tensor):
        return {key: tensor}
    scale = _scale(tensor)
    return {key: (tensor.float() / scale).to(FP8).float() * scale}


def load_fp8(path, kind):
    """As Load Diffusion Model with weight_dtype fp8_e4m3fn."""
    from unittest import mock

    from comfy import model_management

    with mock.patch.object(model_management, "unet_dtype", return_value=FP8):
        return load_tiny(path, kind)


def same_learning(one, other):
    """Of two trainings on models of equal weights: losses, and what there is to be learned."""
    shapes = [{name: t.shape for name, t in result.tensors.items()} for result in (one, other)]
    return shapes[0] == shapes[1] and one.losses["loss"] == pytest.approx(
        other.losses["loss"], rel=1e-4
    )


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@METHODS
def test_learns_on_fp8_weights_as_on_their_values(tmp_path, trainer, kind, request):
    path = request.getfixturevalue(f"tiny_{kind}").path
    tiny = load_fp8(path, kind)
    assert {w.dtype for w in tiny.model.model.diffusion_model.parameters()} == {FP8}
    before = sampled(tiny)
    learned = run_trainer(trainer, tiny)
    assert torch.equal(sampled(tiny), before)
    plain = load_tiny(rewritten(path, tmp_path, rounded_to_fp8), kind)
    assert same_learning(learned, run_trainer(trainer, plain))


@METHODS
def test_learns_on_quantised_weights_as_on_their_values(tiny_sd1, tmp_path, trainer, caplog):
    from comfy.quant_ops import QuantizedTensor

    tiny = load_tiny(rewritten(tiny_sd1.path, tmp_path, quantised), "sd1")
    weights = list(tiny.model.model.diffusion_model.parameters())
    assert any(isinstance(weight, QuantizedTensor) for weight in weights)
    before = sampled(tiny)
    learned = run_trainer(trainer, tiny)
    assert torch.equal(sampled(tiny), before)
    plain = load_tiny(rewritten(tiny_sd1.path, tmp_path, rounded_as_quantised), "sd1")
    assert same_learning(learned, run_trainer(trainer, plain))


@METHODS
def test_learns_with_force_channels_last(tiny_sd1, fresh_sd1, trainer):
    with torch.inference_mode():
        fresh_sd1.model.model.diffusion_model.to(memory_format=torch.channels_last)
    before = sampled(fresh_sd1)
    learned = run_trainer(trainer, fresh_sd1)
    assert torch.equal(sampled(fresh_sd1), before)
    assert same_learning(learned, run_trainer(trainer, load_tiny(tiny_sd1.path, "sd1")))
