"""What start flags and other packs put in the place of the host's kernels: a training takes those
that have a backward pass, or says that there is none."""

from dataclasses import replace
from unittest import mock

import pytest
import torch
from comfy import model_management, ops
from comfy.ldm.modules import attention
from personalize.concepts.errors import TrainingError
from personalize.tests.conftest import load_tiny
from personalize.tests.host.test_weight_kinds import FP8, load_fp8, same_learning
from personalize.tests.trainers import run_trainer

pytestmark = pytest.mark.host

TEXT, WHOLE = "textual inversion", "custom diffusion"  # words alone; weights of the UNet


def without_backward(q, k, v, heads, *args, **kwargs):
    """As SageAttention and FlashAttention's own functions, which are for sampling alone."""
    return attention.attention_pytorch(q, k, v, heads).detach()


@pytest.mark.parametrize("trainer", [TEXT, WHOLE])
def test_an_attention_of_the_hosts_without_a_backward_pass_is_not_taken(
    tiny_sd1, trainer, monkeypatch
):
    """--use-sage-attention, --use-flash-attention: the host lets each call be overridden."""
    expected = run_trainer(trainer, tiny_sd1, steps=2)
    for name in ("optimized_attention", "optimized_attention_masked"):
        monkeypatch.setattr(attention, name, attention.wrap_attn(without_backward))
    assert run_trainer(trainer, tiny_sd1, steps=2).equals(expected)


@pytest.mark.parametrize("trainer", [TEXT, WHOLE])
def test_an_attention_that_another_pack_has_put_there_is_told(tiny_sd1, trainer, monkeypatch):
    """Nothing can be overridden then, and zeros would be learned."""
    for name in ("optimized_attention", "optimized_attention_masked"):
        monkeypatch.setattr(attention, name, without_backward)
    with pytest.raises(TrainingError, match="No gradient reaches what is to be learned"):
        run_trainer(trainer, tiny_sd1, steps=2)


class HalfLinear(ops.manual_cast.Linear):
    """As `comfy.ops.cublas_ops.Linear` of --fast cublas_ops, which is there on NVIDIA only."""

    def forward_comfy_cast_weights(self, x):
        return super().forward_comfy_cast_weights(x).detach()


HalfLinear.__module__, HalfLinear.__qualname__ = "comfy.ops", "cublas_ops.Linear"
HALF = type("cublas_ops", (ops.manual_cast,), {"Linear": HalfLinear})


@pytest.mark.parametrize("trainer", [TEXT, WHOLE])
@pytest.mark.parametrize(
    ("load", "fast"), [(load_fp8, ops.fp8_ops), (load_tiny, HALF)], ids=["fp8", "half"]
)
def test_layers_that_multiply_fast_do_not_in_a_training(tiny_sd1, trainer, load, fast):
    with mock.patch.object(ops, "pick_operations", return_value=fast):
        tiny = load(tiny_sd1.path, "sd1")
    layer = tiny.model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2.to_k
    assert isinstance(layer, fast.Linear) and "forward" not in vars(layer)
    learned = run_trainer(trainer, tiny, steps=2, precision="fp32")
    assert "forward" not in vars(layer)
    assert learned.equals(run_trainer(trainer, load(tiny_sd1.path, "sd1"), steps=2))


def compiled_by_the_hosts_node(model, backend):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    set_torch_compile_wrapper(model, backend)


def compiled_as_a_module(model, backend):
    unet = model.get_model_object("diffusion_model")
    model.add_object_patch("diffusion_model", torch.compile(unet, backend=backend))


def compiled_as_a_function(model, backend):
    path = "diffusion_model.middle_block.1.forward"
    forward = torch.compile(model.get_model_object(path), backend=backend)
    model.add_object_patch(path, forward)


@pytest.mark.parametrize(
    "compiled", [compiled_by_the_hosts_node, compiled_as_a_module, compiled_as_a_function]
)
def test_a_compiled_model_is_trained_as_it_was(tiny_sd1, compiled):
    def backend(*_):
        raise AssertionError("it was compiled for a training")

    model = tiny_sd1.model.clone()
    compiled(model, backend)
    patches = dict(model.object_patches)
    learned = run_trainer(TEXT, replace(tiny_sd1, model=model), steps=2)
    assert model.object_patches == patches  # the user's own stays compiled
    assert learned.equals(run_trainer(TEXT, tiny_sd1, steps=2))


@pytest.mark.parametrize("trainer", [TEXT, "catversion"])
def test_learns_through_a_text_encoder_in_fp8_as_through_its_values(tiny_sd1, trainer):
    """--fp8_e4m3fn-text-enc."""
    with mock.patch.object(model_management, "text_encoder_dtype", return_value=FP8):
        tiny = load_tiny(tiny_sd1.path, "sd1")
    plain = load_tiny(tiny_sd1.path, "sd1")
    towers = [one.clip.cond_stage_model.clip_l.transformer.text_model for one in (tiny, plain)]
    assert {weight.dtype for weight in towers[0].encoder.parameters()} == {FP8}
    with torch.inference_mode():
        for rounded, weight in zip(*(tower.parameters() for tower in towers), strict=True):
            weight.copy_(rounded)
    assert same_learning(*(run_trainer(trainer, one, steps=2) for one in (tiny, plain)))
