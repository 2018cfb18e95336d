"""Gradients through frozen layers: equal to autograd's, and what they do not keep."""

import weakref
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from comfy import ops
from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.quant_ops import QuantizedTensor
from personalize.host import autograd, frozen_layers
from personalize.host import backbone as backbone_module
from personalize.host.autograd import checkpointed
from personalize.host.backbone import Backbone, Precision
from personalize.tests.conftest import load_tiny
from personalize.tests.devices import not_played
from personalize.tests.host.test_weight_kinds import load_fp8, quantised, rewritten
from personalize.tests.training.test_parity import (
    LATENTS,
    cross_init,
    loss_and_gradient,
    make_batch,
    relative,
    step_with,
)
from torch.utils._python_dispatch import TorchDispatchMode

pytestmark = pytest.mark.host

NO_MEMORY = "its tensors have no memory of their own"


def by_autograd(monkeypatch):
    monkeypatch.setattr(backbone_module, "frozen_layers", lambda *modules: nullcontext())


@pytest.fixture(scope="module")
def tiny_fp8(tiny_sd1):
    return load_fp8(tiny_sd1.path, "sd1")


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("weights", ["as loaded", "fp8"])
def test_gradients_are_autograds_bit_for_bit(tiny_sd1, tiny_fp8, precision, weights, monkeypatch):
    tiny = tiny_fp8 if weights == "fp8" else tiny_sd1
    ours = step_with(tiny, precision=precision)
    recomputed = step_with(tiny, precision=precision, gradient_checkpointing=True)
    by_autograd(monkeypatch)
    plain = step_with(tiny, precision=precision)
    for loss, gradient in (ours, recomputed):
        assert torch.equal(loss, plain[0]) and torch.equal(gradient, plain[1])


class Casts(TorchDispatchMode):
    """Knows the casts of tensors of some shapes that are still there."""

    def __init__(self, shapes):
        super().__init__()
        self.shapes, self.made = shapes, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.name() == "aten::_to_copy" and tuple(result.shape) in self.shapes:
            self.made.append((weakref.ref(result.untyped_storage()), result.nbytes))
        return result

    def bytes(self):
        return sum(size for storage, size in self.made if storage() is not None)


def kept_casts(tiny, **options):
    """Bytes of weights in the computing type that are there after a step's forward pass."""
    backbone, batch = Backbone(tiny.model, tiny.clip, **options), make_batch()
    unet = tiny.model.model.diffusion_model
    shapes = {tuple(w.shape) for w in unet.parameters() if w.ndim > 1}
    with backbone.session(LATENTS):
        learner = cross_init(backbone)
        with Casts(shapes) as casts:
            terms = learner.loss(backbone, batch)
        assert casts.made and all(term.requires_grad for term in terms.values())
        return casts.bytes()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_casts_of_weights_are_not_kept(tiny_fp8, precision, monkeypatch):
    unet = tiny_fp8.model.model.diffusion_model
    weights = sum(w.numel() for w in unet.parameters() if w.ndim > 1)
    ours = kept_casts(tiny_fp8, precision=precision)
    by_autograd(monkeypatch)
    plain = kept_casts(tiny_fp8, precision=precision)
    assert plain > weights * precision.dtype.itemsize / 2  # most of the UNet, another time
    assert ours == 0


# --- quantised weights ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_quantised(tiny_sd1, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised")
    return load_tiny(rewritten(tiny_sd1.path, folder, quantised), "sd1")


def as_copies(monkeypatch):
    """Quantised weights as plain copies for as long as a session lasts."""
    monkeypatch.setattr(autograd, "is_quantised_linear", lambda layer: False)
    monkeypatch.setattr(frozen_layers, "is_quantised_linear", lambda layer: False)


@pytest.mark.parametrize("checkpoints", [False, True])
def test_quantised_weights_give_the_gradients_of_their_values(
    tiny_quantised, checkpoints, monkeypatch
):
    ours = step_with(tiny_quantised, gradient_checkpointing=checkpoints)
    as_copies(monkeypatch)
    loss, gradient = step_with(tiny_quantised, gradient_checkpointing=checkpoints)
    assert torch.equal(ours[0], loss) and relative(ours[1], gradient) < 1e-5


def kept_values(tiny, monkeypatch):
    """Bytes of quantised weights' values that are there after a step's forward pass, in a plain
    type; and how often a weight's values were made."""
    made, dequantize = [], QuantizedTensor.dequantize

    def noted(weight):
        values = dequantize(weight)
        made.append((weakref.ref(values.untyped_storage()), values.nbytes))
        return values

    monkeypatch.setattr(QuantizedTensor, "dequantize", noted)
    backbone, batch = Backbone(tiny.model, tiny.clip), make_batch()
    with backbone.session(LATENTS):
        terms = cross_init(backbone).loss(backbone, batch)
        assert all(term.requires_grad for term in terms.values())
        return sum(size for storage, size in made if storage() is not None), len(made)


@not_played(NO_MEMORY)
def test_values_of_quantised_weights_are_not_kept(tiny_quantised, monkeypatch):
    kept, made = kept_values(tiny_quantised, monkeypatch)
    as_copies(monkeypatch)
    assert kept == 0 < made
    assert kept_values(tiny_quantised, monkeypatch)[0] > 0


def saved_numbers(tiny):
    """How many numbers of activations autograd keeps at the end of a forward pass."""
    backbone, batch, sizes = Backbone(tiny.model, tiny.clip), make_batch(), {}
    with backbone.session(LATENTS):
        learner = cross_init(backbone)
        known = {w.untyped_storage().data_ptr() for w in tiny.model.model.parameters()}

        def keep(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                sizes[storage.data_ptr()] = storage.nbytes() // tensor.itemsize
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss_and_gradient(backbone, learner, batch)
    return sum(sizes.values())


@not_played(NO_MEMORY)
def test_inputs_of_convolutions_are_not_kept(tiny_sd1, monkeypatch):
    ours = saved_numbers(tiny_sd1)
    by_autograd(monkeypatch)
    assert ours < 0.95 * saved_numbers(tiny_sd1)


def test_another_packs_patch_of_a_layer_counts_and_stays(fresh_sd1):
    path = "diffusion_model.middle_block.0.in_layers.2"
    model = fresh_sd1.model.clone()
    layer = model.get_model_object(path)
    forward = layer.forward
    model.add_object_patch(f"{path}.forward", lambda x: 0.5 * forward(x))
    plain, patched = step_with(fresh_sd1), step_with(replace(fresh_sd1, model=model))
    assert not torch.equal(patched[1], plain[1])
    assert layer.forward is model.object_patches[f"{path}.forward"]
    assert torch.equal(step_with(fresh_sd1)[1], plain[1])
    vars(layer).pop("forward", None)  # where the host leaves the original
    unet = fresh_sd1.model.model.diffusion_model
    assert not any("forward" in vars(module) for module in unet.modules())


def transformer(depth):
    generator = torch.Generator().manual_seed(0)
    module = SpatialTransformer(
        32, 2, 16, depth=depth, context_dim=[24] * depth, use_linear=True,
        operations=ops.disable_weight_init, dtype=torch.float32,
    )  # fmt: skip
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.1
        weight.requires_grad_(False)
    return module


def test_deep_transformers_are_recomputed_a_block_at_a_time():
    """SDXL's have up to ten blocks."""
    module, order = transformer(depth=3), []
    blocks = [m for m in module.modules() if isinstance(m, BasicTransformerBlock)]
    for n, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda *_, n=n: order.append(n))
        block.norm1.register_forward_pre_hook(lambda *_, n=n: order.append(n))
    x, context = torch.ones(1, 32, 4, 4), torch.linspace(-1, 1, 24 * 5).view(1, 5, 24)
    context.requires_grad_()

    def gradient():
        out = module(x, context, transformer_options={})
        return torch.autograd.grad(out.square().sum(), context)[0]

    plain = gradient()
    order.clear()
    with checkpointed(module):
        assert torch.equal(gradient(), plain)
    assert order == [0, 0, 1, 1, 2, 2, 2, 1, 0]


def test_a_base_may_ask_for_checkpoints(tiny_sd1, monkeypatch):
    def checkpoints(**options):
        entered = []
        monkeypatch.setattr(
            backbone_module, "checkpointed", lambda unet: nullcontext(entered.append(unet))
        )
        step_with(tiny_sd1, **options)
        return len(entered)

    assert checkpoints() == 0 and checkpoints(gradient_checkpointing=True) == 1
    own = type(Backbone(tiny_sd1.model, tiny_sd1.clip)._host_base)
    monkeypatch.setattr(own, "checkpointing", True)
    assert checkpoints() == 1 and checkpoints(keep_activations=True) == 0
    assert checkpoints(keep_activations=True, gradient_checkpointing=True) == 1
