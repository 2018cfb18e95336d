"""Words of a prompt and their rows, for plain words, concepts and the host's embeddings."""

import pytest
import torch
from personalize.concepts.errors import PersonalizeError
from personalize.samplers.apply import apply_concept
from personalize.samplers.prompt_rows import MOST_WORDS, chosen_words, written_words
from personalize.tests.samplers.test_local_weights import detex
from personalize.tests.stock import LONG, encode, make_concept
from safetensors.torch import save_file

pytestmark = pytest.mark.host


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


def rows(clip, prompt):
    words, count = written_words(clip, prompt)
    assert count == encode(clip, prompt)[0].shape[1]
    return {word.plain: word.rows for word in words}


def test_plain_words(tiny):
    assert rows(tiny.clip, "A photo, of a (wet:1.3) dog.") == {
        "a": (5,),  # the last one of two
        "photo": (2,),
        "of": (4,),
        "wet": (6,),
        "dog": (7,),
    }


def test_a_word_of_several_tokens_is_one(tiny_sd1):
    words, _ = written_words(tiny_sd1.clip, "a xylophonist plays")
    assert [word.plain for word in words] == ["a", "xylophonist", "plays"]
    assert [row for word in words for row in word.rows] == list(
        range(1, 1 + len(words[1].rows) + 2)
    )
    assert len(words[1].rows) > 1


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_concept_is_one_word_with_all_its_rows(tiny, strength):
    _, clip = apply_concept(tiny.model, tiny.clip, make_concept(tiny, vectors=3), strength)
    _, clip = apply_concept(tiny.model, clip, detex(tiny, "<cup>"), strength)
    assert rows(clip, "a <my-dog> on (<cup>:1.2) with <cup:pose1> pose") == {
        "a": (1,),
        "<my-dog>": (2, 3, 4),
        "on": (5,),
        "<cup>": (6, 7),  # its vector and the class word
        "with": (8,),
        "<cup:pose1>": (9,),
        "pose": (10,),
    }


def test_two_concepts_side_by_side_are_two_words(tiny_sd1):
    _, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, make_concept(tiny_sd1))
    _, clip = apply_concept(tiny_sd1.model, clip, make_concept(tiny_sd1, placeholder="<b>"))
    words, _ = written_words(clip, "<my-dog> <b> <b> dog")
    assert [(word.plain, word.rows) for word in words] == [
        ("<my-dog>", (1,)),
        ("<b>", (2,)),
        ("<b>", (3,)),
        ("dog", (4,)),
    ]


def test_at_strength_0_the_class_word_stands_there(tiny_sd1):
    _, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, make_concept(tiny_sd1), 0.0)
    assert rows(clip, "a <my-dog>") == {"a": (1,), "dog": (2,)}


def test_a_stock_embedding_is_a_word(tiny_sd1, host_base):
    path = host_base / "models" / "embeddings" / "rows-cat.safetensors"
    save_file({"clip_l": torch.rand(2, 64)}, path)
    assert rows(tiny_sd1.clip, "a embedding:rows-cat sits") == {
        "a": (1,),
        "embedding": (2, 3),
        "sits": (4,),
    }


def test_rows_go_on_behind_the_first_77(tiny):
    found = rows(tiny.clip, LONG + "a zebra")
    assert found["zebra"][0] > 77 and found["flags"][-1] > 77


def test_words_are_chosen_by_name(tiny_sd1):
    words, _ = written_words(tiny_sd1.clip, "a red hat and a blue hat, in Paris")
    assert [(w.text, w.rows) for w in chosen_words(words, "hat, Red Hat,paris")] == [
        ("hat", (3, 7)),
        ("Red Hat", (2, 3)),
        ("paris", (10,)),
    ]
    every = chosen_words(words, " ")
    assert [w.text for w in every] == ["a", "red", "hat", "and", "blue", "in", "paris"]
    assert every[0].rows == (1, 5)


def test_what_the_prompt_does_not_have(tiny_sd1):
    words, _ = written_words(tiny_sd1.clip, "a red hat")
    for name in ("cat", "hat red", "<hat>", "red cat"):
        with pytest.raises(PersonalizeError, match=f"no word '{name}'. Its words are: a, red, hat"):
            chosen_words(words, name)
    many, _ = written_words(tiny_sd1.clip, " ".join(f"{c}{d}" for c in "abcde" for d in "aeiou"))
    assert len(chosen_words(many, ",".join(w.text for w in many[:MOST_WORDS]))) == MOST_WORDS
    with pytest.raises(PersonalizeError, match=f"25 words; expected {MOST_WORDS}.*into words"):
        chosen_words(many, "")
    with pytest.raises(PersonalizeError, match="no word. Write one"):
        chosen_words(written_words(tiny_sd1.clip, " ,. ")[0], "")
