"""Prompts through the stock nodes, and concepts of random vectors to put into them."""

import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.tests.devices import same

LONG = "a painting of a castle on a hill with many towers and flags, " * 6


@torch.inference_mode()
def encode(clip, text):
    from nodes import CLIPTextEncode

    ((cond, extra),) = CLIPTextEncode().encode(clip, text)[0]
    return cond, extra["pooled_output"]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert same(a, b)


def assert_differ(one, other):
    assert one[0].shape != other[0].shape or not torch.allclose(one[0], other[0], atol=1e-4)


def base_of(tiny):
    return tiny.kind.removesuffix("v")


def width_of(tiny):
    return tiny.model.model.model_config.unet_config["context_dim"]


def make_concept(tiny, vectors=1, placeholder="<my-dog>", class_word="dog", seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    word = torch.randn(vectors, width_of(tiny), generator=generator)
    return Concept(
        methods.TEXTUAL_INVERSION,
        base_of(tiny),
        width_of(tiny),
        placeholder,
        class_word,
        {"": word, **more},
    )


def text_lora(tiny):
    """Patches of a layer of each text encoder."""
    generator = torch.Generator().manual_seed(2)
    end = "transformer.text_model.encoder.layers.1.mlp.fc1.weight"
    return {
        key: ("diff", (0.2 * torch.randn(weight.shape, generator=generator),))
        for key, weight in tiny.clip.patcher.model_state_dict().items()
        if key.endswith(end)
    }
