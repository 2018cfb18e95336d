"""Where the host's cross attention can be patched, and what its kernel tells beside its result."""

import pytest
import torch
from personalize.host import attention
from personalize.host.attention import attention_and_logsumexp, cross_attention, patch_place

pytestmark = pytest.mark.host


@pytest.mark.parametrize(
    "path, place",
    [
        ("input_blocks.1.1.transformer_blocks.0", ("input", 1, 0)),
        ("input_blocks.7.1.transformer_blocks.9", ("input", 7, 9)),  # of SDXL
        ("middle_block.1.transformer_blocks.0", ("middle", 0, 0)),
        ("output_blocks.11.1.transformer_blocks.0", ("output", 11, 0)),
    ],
)
def test_the_hosts_name_of_a_block(path, place):
    assert patch_place(path) == place


def test_every_block_of_a_model_has_a_place_of_its_own(tiny_sd1):
    paths = [
        name.removesuffix(".attn2")
        for name, _ in tiny_sd1.model.model.diffusion_model.named_modules()
        if name.endswith(".attn2")
    ]
    places = [patch_place(path) for path in paths]
    assert paths and len(set(places)) == len(places)


@pytest.fixture
def torchs_attention(monkeypatch):
    """The host computes with torch's attention, as it does on a GPU."""
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)


def queries_keys_values(width=64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, rows, width, generator=generator) for rows in (30, 7, 7)]


def test_the_kernel_tells_the_logsumexp_beside_the_same_result(torchs_attention):
    q, k, v = queries_keys_values()
    out, logsumexp = attention_and_logsumexp(q, k, v, {"n_heads": 4})
    assert torch.equal(out, cross_attention(q, k, v, {"n_heads": 4}))
    by_head = [t.view(2, -1, 4, 16).transpose(1, 2) for t in (q, k)]
    logits = by_head[0] @ by_head[1].transpose(2, 3) / 4
    assert torch.allclose(logsumexp, logits.logsumexp(dim=-1, keepdim=True), atol=1e-5)


def test_anothers_attention_tells_none(torchs_attention, monkeypatch):
    q, k, v = queries_keys_values()
    double = {"optimized_attention_override": lambda chosen, *a, **b: 2 * chosen(*a, **b)}
    out, logsumexp = attention_and_logsumexp(q, k, v, {"n_heads": 4, **double})
    plain = cross_attention(q, k, v, {"n_heads": 4})
    assert logsumexp is None and torch.equal(out, 2 * plain)
    assert attention_and_logsumexp(*queries_keys_values(24), {"n_heads": 4})[1] is None  # of 6
    monkeypatch.setattr(attention, "optimized_attention", lambda *a, **b: plain)
    assert attention_and_logsumexp(q, k, v, {"n_heads": 4}) == (plain, None)
