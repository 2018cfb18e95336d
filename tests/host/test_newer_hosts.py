"""What newer versions of the host do, played: see docs/compatibility.md for what was read."""

import pytest
import torch
from comfy import model_management, ops
from comfy.ldm.modules import attention
from personalize.concepts.bases import TextLayer
from personalize.concepts.errors import BaseModelError
from personalize.host.attention_maps import AttentionReader, cross_attentions
from personalize.host.frozen_layers import frozen_layers
from personalize.host.text_attention import OpenSelfAttention, active_attention
from personalize.tests.training.test_parity import step_with

pytestmark = pytest.mark.host


def test_a_linear_layer_may_do_a_neighbours_work_too(monkeypatch):
    """Since 0.40 one may take what comes before and after it, to compute all in one kernel."""
    kind = ops.manual_cast.Linear
    own = ops.disable_weight_init.Linear.forward

    def forward(self, x, *, epilogue=None):
        y = own(self, x)
        return y if epilogue is None else epilogue(y)

    monkeypatch.setattr(ops.disable_weight_init.Linear, "forward", forward)
    layer = kind(3, 2, dtype=torch.float16)
    layer.weight = torch.nn.Parameter(torch.tensor([[0.5, -1, 2], [1, 0.25, -3]]).half(), False)
    layer.bias = torch.nn.Parameter(torch.tensor([0.125, -2]).half(), False)
    x = torch.linspace(-1, 1, 12).view(4, 3).requires_grad_()

    def gradient():
        y = layer(layer(x, epilogue=torch.relu) @ torch.ones(2, 3))
        return torch.autograd.grad(y.square().sum(), x)[0]

    plain = gradient()
    with frozen_layers(layer):
        assert torch.equal(gradient(), plain)


def test_a_text_layer_may_be_handed_more():
    handed = {}

    def forward(x, mask=None, kernel=None, **more):
        handed.update(more)
        return x

    layer = OpenSelfAttention(forward, None, TextLayer("clip_l", 3))
    x, mask = torch.ones(1), torch.zeros(2, 2)
    layer(x, mask, transformer_options={"a": 1})
    assert handed == {"transformer_options": {"a": 1}}
    with active_attention({TextLayer("clip_l", 3): lambda *_: x + 1}):
        assert torch.equal(layer(x, mask, transformer_options={}), x + 1)


class Container:
    """What holds a tensor until the attention kernel takes it out, since 0.38."""

    def __init__(self, tensor):
        self.tensor = tensor

    def take(self):
        tensor, self.tensor = self.tensor, None
        assert tensor is not None, "taken twice"
        return tensor


def _in_containers(self, x, context=None, value=None, mask=None, transformer_options=None):
    context = x if context is None else context
    made = self.to_q(x), self.to_k(context), self.to_v(context if value is None else value)
    held = [Container(tensor) for tensor in made]
    kernel = attention.optimized_attention
    override = (transformer_options or {}).get("optimized_attention_override")
    q, k, v = (container.take() for container in held)
    options = {"attn_precision": self.attn_precision, "transformer_options": transformer_options}
    if override is not None:
        return self.to_out(override(kernel, q, k, v, self.heads, preferred=None, **options))
    return self.to_out(kernel(q, k, v, self.heads, mask, **options))


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_training_is_the_same_where_attention_gets_containers(tiny_sd1, recomputed, monkeypatch):
    plain = step_with(tiny_sd1, gradient_checkpointing=recomputed)
    monkeypatch.setattr(attention.CrossAttention, "forward", _in_containers)
    for ours, theirs in zip(
        step_with(tiny_sd1, gradient_checkpointing=recomputed), plain, strict=True
    ):
        assert torch.equal(ours, theirs)


def _in_one_kernel(self, x):
    """Of a neighbour and a linear layer, which has a backward pass only where the host trains."""
    y = self.net(x)
    return y if model_management.in_training else y.detach()


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_training_is_the_same_where_kernels_ask_whether_the_host_trains(
    tiny_sd1, recomputed, monkeypatch
):
    """`linear_input_act` of 0.38 does, for int8 weights and for sums in fp16."""
    plain = step_with(tiny_sd1, gradient_checkpointing=recomputed)
    monkeypatch.setattr(attention.FeedForward, "forward", _in_one_kernel)
    for ours, theirs in zip(
        step_with(tiny_sd1, gradient_checkpointing=recomputed), plain, strict=True
    ):
        assert torch.equal(ours, theirs)


def test_queries_and_keys_made_in_another_way_are_told(tiny_sd1):
    layers = cross_attentions(tiny_sd1.model.model.diffusion_model)
    reader = AttentionReader(layers)
    with reader.reading(), pytest.raises(BaseModelError, match=r"to_q and to_k, but it called"):
        reader.word_maps(torch.zeros(1, 1, dtype=torch.long))
