"""The parts of an encoding that has several text encoders."""

from functools import partial

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.bases import BASES, TextLayer
from personalize.concepts.concept import Concept
from personalize.concepts.residual_attention import attend_with_residuals
from personalize.concepts.residuals import residual_tensors
from personalize.samplers.encoding import side_by_side, with_class_word
from personalize.samplers.mentions import mentioned_rows
from personalize.samplers.prompt_words import AppliedConcept, tokenizer_with_concept
from personalize.samplers.strength import Strength
from personalize.tests.stock import make_concept

pytestmark = pytest.mark.host


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


LAYERS = TextLayer("clip_l", 1), TextLayer("clip_l", 2)


def catversion(strength=1.0, n=1, bias=1.0):
    pairs = {layer: (torch.ones(n, 4), torch.zeros(n, 4)) for layer in LAYERS}
    tensors = residual_tensors(BASES["sd1"], pairs, bias)
    one = Concept(methods.CATVERSION, "sd1", 4, "<x>", "dog", tensors=tensors)
    return AppliedConcept(one, Strength(strength))


def test_residuals_of_several_concepts_stand_side_by_side_at_their_strengths():
    layers = side_by_side([catversion(), catversion(0.5, n=2, bias=0.0)], {"clip_l": 3})
    assert set(layers) == set(LAYERS)
    for attend in layers.values():
        assert isinstance(attend, partial) and attend.func is attend_with_residuals
        counts = [len(one.keys) for one in attend.keywords["residuals"]]
        biases = [one.logit_bias for one in attend.keywords["residuals"]]
        assert counts == [1, 2] and attend.keywords["rows"] == 3
        assert biases == pytest.approx([1.0, torch.tensor(0.5).log().item()])


def applied_to(tiny, concept, strength=0.5):
    applied = AppliedConcept(concept, Strength(strength))
    return applied, tokenizer_with_concept(tiny.clip, applied)


@pytest.mark.parametrize("class_word", ["dog", "teddy bear", ""])
def test_a_chunk_with_the_class_word_is_that_prompt(tiny, class_word):
    from personalize.host.base_models import towers_of

    concept = make_concept(tiny, 3, class_word=class_word)
    applied, tokenizer = applied_to(tiny, concept)
    prompt = "a {} on the beach, ({} asleep:1.3)"
    plain = prompt.format(*[class_word] * 2)
    for tower in towers_of(tiny.clip).towers:
        (ours,) = tokenizer.tokenize_with_weights(prompt.format(*["<my-dog>"] * 2))[tower.key]
        (stock,) = tiny.clip.tokenizer.tokenize_with_weights(plain)[tower.key]
        assert with_class_word(ours, tower, applied) == stock
        assert with_class_word(stock, tower, applied) is stock


def test_the_rows_are_those_of_the_placeholder_and_with_own_prompts_of_attributes(tiny):
    pose = torch.ones(1, make_concept(tiny).text_width)
    concept = make_concept(tiny, 2, pose1=pose)
    applied, tokenizer = applied_to(tiny, concept)
    tokens = tokenizer.tokenize_with_weights("a <my-dog> in <my-dog:pose1> pose")
    assert mentioned_rows(tokens, applied) == (2, 3)
    own = AppliedConcept(concept, Strength(1.0), own_prompts=True)
    tokens = tokenizer_with_concept(tiny.clip, own).tokenize_with_weights("<my-dog:pose1> <my-dog>")
    assert mentioned_rows(tokens, own) == (1, 2, 3)
    assert mentioned_rows(tokens, applied) == ()
