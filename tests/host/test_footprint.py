"""The count of a step's memory, on tensors without memory: what is counted, and when it is gone."""

from dataclasses import replace

import pytest
import torch
from personalize.host import footprint
from personalize.host.attention_maps import AttentionReader
from personalize.host.footprint import META, Allocated, StepShape, meta_unet, step_bytes

pytestmark = pytest.mark.host

SHAPE = StepShape(rows=1, side=64, dtype=torch.float16, weights=torch.float16)


def empty(*shape):
    return torch.empty(shape, device=META)


def test_what_is_gone_counts_no_longer_and_the_peak_stays():
    with Allocated() as counted:
        first = empty(10)
        assert (counted.now, counted.peak) == (40, 40)
        second = first + 1
        assert (counted.now, counted.peak) == (80, 80)
        del second
        assert (counted.now, counted.peak) == (40, 80)
        third = first.half()
    assert (counted.now, counted.peak) == (60, 80)
    del first, third
    assert (counted.now, counted.peak) == (0, 80)


def test_views_and_what_was_there_before_cost_nothing():
    weight = empty(4, 4)
    with Allocated([weight]) as counted:
        views = weight.view(16), weight.t(), weight[1:]
        assert counted.now == 0
        made = weight.t().contiguous()
        assert counted.now == 64
        views += (made.view(2, 8),)
        assert counted.now == counted.peak == 64 and len(views) == 4


def test_fused_attention_keeps_its_result_and_a_number_a_query():
    """As torch's fused kernels: q, k, v and out, and log sum exp in fp32 for each head."""
    q, k, v = (empty(2, n, 8).requires_grad_() for n in (6, 5, 5))
    with Allocated([q, k, v]) as counted:
        out = footprint._fused(None, q, k, v, 2)
        assert out.shape == q.shape
        kept = out.nbytes + 2 * 2 * 6 * 4
        assert counted.now == kept
        loss = out.sum()
        del out
        assert counted.now == kept + 4
        gradients = torch.autograd.grad(loss, [q, k, v])
        assert [g.shape for g in gradients] == [q.shape, k.shape, v.shape]


@pytest.fixture(scope="module")
def config(tiny_sd1):
    return tiny_sd1.model.model.model_config.unet_config


def test_trained_weights_are_fp32_whatever_the_model_is_in(config):
    unet = meta_unet(config, torch.float16)
    trained = footprint._projections(unet)
    layers = [
        layer for path, layer in unet.named_modules() if path.endswith(("attn2.to_k", "attn2.to_v"))
    ]
    assert list(trained) == layers
    for layer, copy in trained.items():
        assert copy.shape == layer.weight.shape and copy.is_meta
        assert (copy.dtype, layer.weight.dtype) == (torch.float32, torch.float16)


def test_maps_of_half_the_latents_side_are_read(config, monkeypatch):
    sides = []

    def noted(reader, places):
        sides.append(set(reader.sides().values()))
        return word_maps(reader, places)

    word_maps = AttentionReader.word_maps
    monkeypatch.setattr(AttentionReader, "word_maps", noted)
    unet = meta_unet(config, SHAPE.weights)
    step_bytes(unet, config, replace(SHAPE, maps=True))
    assert sides == [{4}]
