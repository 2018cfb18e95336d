"""What takes the place of a CLIP's encoding, and of its layers' self-attention."""

import pytest
import torch
from personalize.concepts.bases import TextLayer
from personalize.host.base_models import towers_of
from personalize.host.text_attention import active_attention, open_layers
from personalize.host.text_patches import patch_encoding
from personalize.tests.stock import assert_differ, assert_same, encode

pytestmark = pytest.mark.host


class Doubled:
    def __init__(self, encode):
        self.encode = encode

    def __call__(self, tokens):
        rows, *more = self.encode(tokens)
        return (2 * rows, *more)


def test_an_encoding_of_a_kind_is_made_once(tiny):
    clip = tiny.clip.clone()
    patch_encoding(clip, Doubled, Doubled)
    patch_encoding(clip, Doubled, Doubled)
    assert torch.equal(encode(clip, "a dog")[0], 2 * encode(tiny.clip, "a dog")[0])
    further = clip.clone()
    patch_encoding(further, Doubled, Doubled)
    assert_same(encode(further, "a dog"), encode(clip, "a dog"))


def test_an_open_layer_is_the_hosts_until_another_attention_is_active(tiny):
    (tower,) = towers_of(tiny.clip).towers
    layer, other = TextLayer(tower.name, 1), TextLayer(tower.name, 2)
    clip, calls = tiny.clip.clone(), []
    open_layers(clip, [layer])
    open_layers(clip, [layer])
    stock = encode(tiny.clip, "a dog")
    assert_same(encode(clip, "a dog"), stock)

    def attend(attn, x, mask, kernel):
        calls.append((tuple(x.shape), tuple(mask.shape)))
        return attn.out_proj(kernel(attn.q_proj(x), attn.k_proj(x), attn.v_proj(x), attn.heads))

    with active_attention({layer: attend, other: attend}):
        assert_differ(encode(clip, "a dog"), stock)
        assert_same(encode(tiny.clip, "a dog"), stock)
    assert calls == [((1, 77, tower.width), (77, 77))]
    assert_same(encode(clip, "a dog"), stock)
