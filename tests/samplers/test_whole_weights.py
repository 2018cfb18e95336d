"""Whole weights of other programs in the place of the MODEL's own: as differences to these."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts.differences import compressed, difference_tensors, whole_tensors
from personalize.concepts.errors import BaseModelError, PersonalizeError
from personalize.concepts.methods import CUSTOM_DIFFUSION
from personalize.host.weights import own_weights, weight_key
from personalize.samplers.apply import apply_concept
from personalize.samplers.differences import differences_for
from personalize.tests.devices import close, here
from personalize.tests.stock import assert_same, encode, make_concept
from personalize.tests.training.test_learn import sample, weights

pytestmark = pytest.mark.host

BLOCK = "middle_block.1.transformer_blocks.0.attn2"
PATHS = [f"{BLOCK}.to_k", f"{BLOCK}.to_v"]
PROMPT = "a photo of a <my-dog>"


@pytest.fixture(scope="module")
def changes(tiny_sd1):
    """Differences that a file of fp16 holds without rounding: small powers of two."""
    own = own_weights(tiny_sd1.model, PATHS)
    generator = torch.Generator().manual_seed(3)
    return {path: torch.randint(-2, 3, own[path].shape, generator=generator) / 4 for path in PATHS}


@pytest.fixture(scope="module")
def concepts(tiny_sd1, changes):
    """One with differences, and the same with whole weights."""
    own = own_weights(tiny_sd1.model, PATHS)
    word = replace(make_concept(tiny_sd1), method=CUSTOM_DIFFUSION)
    whole = {path: own[path] + changes[path] for path in PATHS}
    return (
        replace(word, tensors=difference_tensors(changes)),
        replace(word, tensors=whole_tensors(whole)),
    )


def lora(model):
    clone = model.clone()
    shape = model.model_state_dict()[weight_key(PATHS[0])].shape
    patch = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    clone.add_patches({weight_key(PATHS[0]): ("diff", (patch,))})
    return clone


@pytest.mark.parametrize("own_prompts", [False, True])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
def test_they_act_as_differences_to_the_models_own_weights(
    tiny_sd1, concepts, strength, own_prompts
):
    ours, theirs = (
        sample(
            tiny_sd1,
            PROMPT,
            *apply_concept(
                tiny_sd1.model, tiny_sd1.clip, concept, strength, own_prompts=own_prompts
            ),
        )
        for concept in concepts
    )
    assert torch.equal(ours[0], theirs[0])
    assert torch.allclose(ours[1], theirs[1], atol=1e-5)
    stock = sample(tiny_sd1, "a photo of a dog")
    if strength:
        assert not torch.allclose(theirs[1], stock[1], atol=1e-2)
    else:
        assert_same(theirs, stock)


@torch.inference_mode()
def test_they_are_differences_to_weights_without_a_lora(tiny_sd1, concepts, changes):
    """Also while the host has the LoRA's weights loaded."""
    patched = lora(tiny_sd1.model)
    before = weights(tiny_sd1.model)
    sample(tiny_sd1, "a dog", model=patched)
    loaded = here(patched.model_state_dict()[weight_key(PATHS[0])])
    assert not torch.equal(loaded.float(), here(before[weight_key(PATHS[0])]).float())
    for model in (patched, tiny_sd1.model):
        found = differences_for(model, concepts[1])
        assert all(close(found[path], changes[path], atol=1e-6) for path in PATHS)


def test_a_lora_keeps_its_effect_in_either_order(tiny_sd1, concepts):
    clip = tiny_sd1.clip
    for concept in concepts:
        first = apply_concept(lora(tiny_sd1.model), clip, concept)
        then, text = apply_concept(tiny_sd1.model, clip, concept)
        last = lora(then), text
        one, other = sample(tiny_sd1, PROMPT, *first), sample(tiny_sd1, PROMPT, *last)
        assert torch.allclose(one[1], other[1], atol=1e-4)
        without = sample(tiny_sd1, PROMPT, then, text)
        assert not torch.allclose(one[1], without[1], atol=1e-2)


def test_a_model_without_the_layer_is_refused(tiny_sd1, concepts):
    for path, shape, message in (
        ("middle_block.9.attn2.to_k", (4, 64), "which this MODEL lacks"),
        (PATHS[0], (4, 64), r"\(4, 64\), which this MODEL has as"),
    ):
        other = replace(concepts[1], tensors=whole_tensors({path: torch.zeros(shape)}))
        with pytest.raises(BaseModelError, match=f"{message}.*Load a checkpoint"):
            apply_concept(tiny_sd1.model, tiny_sd1.clip, other)


def test_no_rank_without_a_model(concepts):
    with pytest.raises(PersonalizeError, match="whole weights.*Set rank to 0"):
        compressed(concepts[1], 4)


def test_the_word_of_a_concept_without_a_class_word_stands_alone(tiny_sd1, concepts):
    """Files of other programs do not say what the subject is: the prompt does."""
    anonymous = replace(concepts[1], class_word="")
    _, named = apply_concept(tiny_sd1.model, tiny_sd1.clip, concepts[1])
    _, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, anonymous)
    assert_same(encode(clip, "a photo of a <my-dog> dog"), encode(named, PROMPT))
