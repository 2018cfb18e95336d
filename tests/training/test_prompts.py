"""Training prompts: templates, places of the learned words, and that only they get gradients."""

import pytest
import torch
from personalize.concepts.errors import TrainingError
from personalize.host.autograd import differentiable
from personalize.host.text_encoder import TextEncoder
from personalize.tests.devices import here
from personalize.training.cross_init import (
    CrossInitConfig,
    initial_tokens,
    initial_words,
    subject_pieces,
)
from personalize.training.prompts import PromptTable, template_pieces
from personalize.training.templates import OBJECT_TEMPLATES, PEOPLE_TEMPLATES, parse_templates

pytestmark = pytest.mark.host


@pytest.fixture(params=["tiny_sd1", "tiny_sd2"])
def text(request):
    clip = request.getfixturevalue(request.param).clip
    with torch.inference_mode():
        clip.load_model()
    return TextEncoder(clip)


def test_the_published_templates():
    assert len(set(OBJECT_TEMPLATES)) == 27
    assert parse_templates("  \n") == OBJECT_TEMPLATES
    assert parse_templates("a {}\n\n the {} there ") == ("a {}", "the {} there")


def test_people_are_photographed_drawn_and_depicted():
    """As often as in the published program, whose templates name a photo in 15 of 27 cases."""
    assert len(PEOPLE_TEMPLATES) == 81 and PEOPLE_TEMPLATES[:27] == OBJECT_TEMPLATES
    for n, start in enumerate(("a photo of", "an illustration of", "a depiction of")):
        own = PEOPLE_TEMPLATES[27 * n : 27 * n + 27]
        assert sum(t.startswith(start) for t in own) == 15
        assert [t for t in own if not t.startswith(start)] == [
            t for t in OBJECT_TEMPLATES if not t.startswith("a photo of")
        ]


@pytest.mark.parametrize("line", ["a photo", "{} and {}"])
def test_a_template_has_one_place(line):
    with pytest.raises(TrainingError, match=f"has {line.count('{}')} places"):
        parse_templates(f"a photo of a {{}}\n{line}")


def test_rows_are_what_the_host_tokenises(text):
    """The learned words stand where the prompt has as many ordinary ones."""
    table = PromptTable(text, [["a photo of a ", range(2), " dog on the beach"], ["cat"]])
    key = text.clip.cond_stage_model.clip_name
    for n, prompt in enumerate(("a photo of a big red dog on the beach", "cat")):
        ((*stock,),) = text.clip.tokenize(prompt)[key]
        stock = torch.tensor([token for token, _ in stock])
        plain = here(table.slots[n]) < 0
        assert torch.equal(here(table.ids[n, :, 0])[plain], stock[plain])
    assert table.slots[0].tolist() == [-1] * 5 + [0, 1] + [-1] * 70


def test_gradients_reach_the_words_alone(text):
    table = PromptTable(text, [[range(2), " dog"]])
    vectors = torch.zeros(2, text.width, requires_grad=True)
    with torch.inference_mode(False), differentiable(text.clip.cond_stage_model):
        embedded = table.embed(text, torch.tensor([0, 0]), vectors)
    embedded.rows.sum().backward()
    assert torch.equal(vectors.grad, torch.full((2, text.width), 2.0))


def test_faces_and_other_subjects_have_their_own_prompts():
    assert template_pieces("a photo of a {}", subject_pieces("person", 2)) == [
        "a photo of a ", "face of ", range(2), " person", "",
    ]  # fmt: skip
    assert subject_pieces("dog", 2) == ["", range(2), " dog"]


def test_cross_initialization_has_two_words_at_least(text):
    (dog,) = text.tokenize("dog")
    assert initial_tokens(text, "dog") == [dog, dog]
    assert initial_tokens(text, "teddy bear") == text.tokenize("teddy bear")
    assert initial_tokens(text, "teddy bear", 3) == [*text.tokenize("teddy bear bear")]


def test_words_can_start_from_others_than_the_class_word(text):
    def start(**options):
        with torch.no_grad():
            config = CrossInitConfig(placeholder="<x>", **{"class_word": "dog"} | options)
            return initial_words(text, config)

    chosen = start(init_from="class word", initial_words="teddy bear", words=3)
    assert torch.equal(chosen, start(init_from="class word", class_word="teddy bear", words=3))
    assert [len(start(words=n)) for n in (1, 2, 4)] == [1, 2, 4]


@pytest.mark.parametrize("words", [0, 75])
def test_numbers_of_words_that_no_prompt_holds_are_refused(words):
    with pytest.raises(TrainingError, match=f"Expected 1 to 74 words, got {words}"):
        CrossInitConfig(placeholder="<x>", words=words)


def test_a_prompt_longer_than_a_chunk_is_refused(text):
    with pytest.raises(TrainingError, match=r"has 77 tokens, one chunk holds 75.*a dog <\.\.\.>"):
        PromptTable(text, [["a dog ", range(75)]])
