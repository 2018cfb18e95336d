"""Opened text layers: another attention inside its block, the layer's own outside."""

import pytest
import torch
from personalize.concepts.bases import TextLayer

pytestmark = pytest.mark.host
LAYER, OTHER = TextLayer("clip_l", 3), TextLayer("clip_l", 4)


def test_attention_is_replaced_in_its_block_and_layer_alone():
    from personalize.host.text_attention import OpenSelfAttention, active_attention

    own, other, mask = torch.zeros(1), torch.ones(1), torch.zeros(2, 2)
    layer = OpenSelfAttention(lambda *_: own, None, LAYER)
    replaced = {LAYER: lambda *_: other}
    assert layer(own, mask) is own
    with active_attention(replaced):
        assert layer(own, mask) is other
        assert layer(own) is own  # without a mask nothing of a prompt is encoded
        with active_attention({OTHER: lambda *_: other}):
            assert layer(own, mask) is own
        assert layer(own, mask) is other
    with pytest.raises(KeyboardInterrupt), active_attention(replaced):
        raise KeyboardInterrupt
    assert layer(own, mask) is own
