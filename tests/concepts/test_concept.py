import dataclasses

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import MAX_VECTORS, Concept
from personalize.concepts.errors import ConceptFileError, PersonalizeError, PlaceholderError


def concept(word=None, **changes):
    settings = {
        "method": methods.TEXTUAL_INVERSION,
        "base": "sd1",
        "text_width": 8,
        "placeholder": "<my-dog>",
        "words": {"": torch.ones(1, 8) if word is None else word},
    }
    return Concept(**settings | changes)


def test_a_concept_cannot_be_changed():
    made = concept()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.placeholder = "<hat>"
    with pytest.raises(TypeError):
        made.words["pose1"] = torch.ones(1, 8)


def test_a_concept_keeps_its_own_copy_of_the_words():
    word = torch.ones(2, 8)
    made = concept(word)
    word.zero_()
    assert torch.equal(made.words[""], torch.ones(2, 8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_words_become_contiguous_fp32_rows(dtype):
    word = torch.arange(16, dtype=dtype).view(8, 2).T.requires_grad_(True)
    kept = concept(word).words[""]
    assert kept.dtype == torch.float32 and kept.is_contiguous() and not kept.requires_grad
    assert torch.equal(kept, word.detach().float())
    assert concept(torch.ones(8)).words[""].shape == (1, 8)


def test_renamed_is_the_same_concept_under_another_placeholder():
    made = concept(class_word="  teddy   bear ")
    renamed = made.renamed(" <bear> ")
    assert (renamed.placeholder, renamed.class_word) == ("<bear>", "teddy bear")
    assert torch.equal(renamed.words[""], made.words[""])
    assert made.placeholder == "<my-dog>"
    with pytest.raises(PlaceholderError, match="ordinary word"):
        made.renamed("bear")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (torch.ones(0, 8), r"1 to 75 vectors of width 8.*\(0, 8\)"),
        (torch.ones(MAX_VECTORS + 1, 8), r"1 to 75 vectors of width 8.*\(76, 8\)"),
        (torch.ones(1, 9), r"width 8.*\(1, 9\)"),
        (torch.ones(1, 1, 8), r"width 8.*\(1, 1, 8\)"),
        (torch.tensor(1.0), "width 8"),
        (torch.full((1, 8), float("nan")), "NaN or infinite.*train it again"),
        (torch.full((1, 8), float("-inf")), "NaN or infinite.*train it again"),
    ],
)
def test_words_that_no_prompt_can_hold_are_refused(word, message):
    with pytest.raises(ConceptFileError, match=message):
        concept(word)


def test_as_many_vectors_as_a_prompt_has_room_for():
    assert concept(torch.ones(MAX_VECTORS, 8)).words[""].shape == (75, 8)


@pytest.mark.parametrize("name", ["Pose2", "pose 2", "2", "a:b", "../x"])
def test_odd_names_of_attribute_words_are_refused(name):
    with pytest.raises(ConceptFileError, match="no name for an attribute word.*pose2"):
        concept(words={name: torch.ones(1, 8)})


def test_an_unknown_base_model_is_refused_with_the_known_ones():
    with pytest.raises(PersonalizeError, match=r"'sd9'.*sd1, sd2"):
        concept(base="sd9")


def test_base_title_names_family_and_width():
    assert concept().base_title == "Stable Diffusion 1.x (text width 8)"
