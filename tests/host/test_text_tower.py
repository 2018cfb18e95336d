"""One text encoder, of three layers that multiply: which layers run, and where the norm stands."""

from types import SimpleNamespace

import pytest
import torch
from personalize.concepts.bases import TextLayer
from personalize.host.text_tower import TowerEncoder
from torch import nn

pytestmark = pytest.mark.host

ROWS, WIDTH, LENGTH = 40, 2, 6


class Constant:
    """Returns a number everywhere; dtype: that its weight is kept in."""

    def __init__(self, number, dtype):
        self.number, self.fc1 = number, SimpleNamespace(weight=torch.empty(1, dtype=dtype))

    def __call__(self, x):
        return torch.full_like(x, self.number)


class Layer(nn.Module):
    """x -> 2 x + number, by an attention that returns x and an mlp of constants."""

    def __init__(self, number, dtype):
        super().__init__()
        self.layer_norm1 = self.layer_norm2 = nn.Identity()
        self.mlp, self.runs = Constant(number, dtype), 0

    def self_attn(self, x, mask, kernel):
        self.runs += 1
        return x * torch.ones_like(x)  # which autograd keeps for the backward pass


class Table(nn.Embedding):
    def forward(self, ids, out_dtype):
        return super().forward(ids).to(out_dtype)


def tower(layer="last", index=None, normed=True, dtype=torch.float32, skip=None):
    table, positions = Table(ROWS, WIDTH), nn.Embedding(LENGTH, WIDTH)
    with torch.no_grad():
        table.weight.copy_(torch.arange(ROWS)[:, None].expand(ROWS, WIDTH))
        positions.weight.copy_(torch.arange(LENGTH)[:, None] * 0.25)
    text_model = SimpleNamespace(
        embeddings=SimpleNamespace(token_embedding=table, position_embedding=positions),
        encoder=SimpleNamespace(layers=[Layer(number, dtype) for number in (1, 10, 100)]),
        final_layer_norm=lambda x: -x,
    )
    encoder = SimpleNamespace(
        num_layers=3,
        layer_norm_hidden_state=normed,
        transformer=SimpleNamespace(text_projection=lambda x: 3 * x),
    )

    def reset():
        encoder.layer, encoder.layer_idx = layer, index

    def told(options):
        encoder.layer, encoder.layer_idx = "hidden", options["layer"]

    encoder.reset_clip_options, encoder.set_clip_options = reset, told
    reset()
    tokenizer = SimpleNamespace(max_length=LENGTH, start_token=1, end_token=2, pad_token=0)
    parts = SimpleNamespace(
        name="clip_l", encoder=encoder, tokenizer=tokenizer, text_model=text_model
    )
    clip = SimpleNamespace(layer_idx=skip, patcher=SimpleNamespace(load_device=torch.device("cpu")))
    return TowerEncoder(parts, clip)


def after(x, *layers):
    for number in layers:
        x = 2 * x + number
    return x


EMBEDS = torch.arange(6.0).view(1, LENGTH, 1).expand(1, LENGTH, WIDTH)
START = EMBEDS + torch.arange(LENGTH).view(1, LENGTH, 1) * 0.25
ENDS = torch.tensor([3])


def test_a_prompt_has_its_begin_and_its_end_however_long_it_is():
    one = tower()
    assert one.pad([]) == [1, 2, 0, 0, 0, 0]
    assert one.pad([7, 8]) == [1, 7, 8, 2, 0, 0]
    assert one.pad([5, 6, 7, 8]) == [1, 5, 6, 7, 8, 2] == one.pad([5, 6, 7, 8, 9, 10])


def test_embeddings_are_fp32_and_a_words_size_is_that_of_every_sixteenth():
    one = tower()
    one.text_model.embeddings.token_embedding.half()
    rows = one.embed(torch.tensor([[3, 39]]))
    assert rows.dtype == torch.float32 and rows[0, :, 0].tolist() == [3.0, 39.0]
    assert one.word_norm() == pytest.approx((0 + 16 + 32) / 3 * 2**0.5)


@pytest.mark.parametrize(
    ("where", "last", "normed"),
    [
        ({}, 2, True),
        ({"layer": "hidden", "index": -2}, 1, True),
        ({"layer": "hidden", "index": -2, "normed": False}, 1, False),
        ({"skip": -1}, 2, True),
        ({"skip": -3, "normed": False}, 0, False),
        ({"layer": "hidden", "index": -2, "skip": -1, "normed": False}, 2, False),
    ],
)
def test_the_context_ends_where_the_host_ends_it(where, last, normed):
    one = tower(**where)
    assert one.last_layer == last
    numbers = (1, 10, 100)
    output = one.finish(one.hidden(EMBEDS, 0), 0, ENDS, {})
    rows = after(START, *numbers[: last + 1])
    assert torch.equal(output.rows, -rows if normed else rows)
    whole = -after(START, *numbers)
    assert torch.equal(output.last, whole)
    assert torch.equal(output.pooled, 3 * whole[:, 3])
    encoder = one.tower.encoder
    assert encoder.layer == where.get("layer", "last")  # the host's own state is left as it was


def test_a_walk_may_pause_at_any_layer():
    one = tower()
    whole = one.finish(one.hidden(EMBEDS, 0), 0, ENDS, {}).rows
    for stop in (1, 2):
        assert torch.equal(one.hidden(EMBEDS, stop), after(START, *(1, 10)[:stop]))
        assert torch.equal(one.finish(one.hidden(EMBEDS, stop), stop, ENDS, {}).rows, whole)


def test_a_layers_attention_can_be_replaced_and_sees_no_later_token():
    one, masks = tower(), []

    def attend(attn, x, mask, kernel):
        masks.append(mask)
        return 0 * x

    replaced = {TextLayer("clip_l", 1): attend, TextLayer("clip_g", 0): attend}
    output = one.finish(one.hidden(EMBEDS, 0), 0, ENDS, replaced)
    assert torch.equal(output.rows, -after(after(START, 1) + 10, 100))
    (mask,) = masks
    assert torch.equal(mask == 0, torch.ones(LENGTH, LENGTH).tril().bool())
    assert mask.min() == -torch.finfo(torch.float32).max


@pytest.mark.parametrize(("dtype", "runs"), [(torch.float32, 1), (torch.float16, 2)])
def test_only_layers_whose_weights_are_cast_run_again_in_the_backward_pass(dtype, runs):
    one = tower(dtype=dtype)
    embeds = EMBEDS.clone().requires_grad_()
    rows = one.finish(one.hidden(embeds, 0), 0, ENDS, {}).rows
    (gradient,) = torch.autograd.grad(rows.sum(), [embeds])
    assert gradient.unique() == -8
    assert [layer.runs for layer in one.text_model.encoder.layers] == [runs] * 3
    with torch.no_grad():
        one.hidden(embeds, 3)
    assert [layer.runs for layer in one.text_model.encoder.layers] == [runs + 1] * 3
