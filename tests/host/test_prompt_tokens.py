"""Shapes of tokenised prompts, as the host of this process has them."""

import pytest
import torch
from personalize.host.base_models import towers_of
from personalize.host.prompt_tokens import (
    blended,
    rows_where,
    tokens_in,
    with_extra,
    with_tokens,
)
from personalize.tests.stock import LONG, encode

pytestmark = pytest.mark.host


@pytest.fixture
def tower(tiny):
    (only,) = towers_of(tiny.clip).towers
    return only


def test_a_prompt_is_chunks_of_entries_by_encoder(tiny, tower):
    tokens = tiny.clip.tokenize(LONG + LONG)
    assert list(tokens) == [tower.key]
    assert len(tokens[tower.key]) > 1
    assert all(len(chunk) == tower.tokenizer.max_length for chunk in tokens[tower.key])
    numbers = list(tokens_in(tokens))
    assert len(numbers) == encode(tiny.clip, LONG + LONG)[0].shape[1]
    assert numbers[0] == tower.tokenizer.start_token
    assert tower.tokenizer.end_token in numbers[:77]
    with_ids = tiny.clip.tokenize("a dog", return_word_ids=True)[tower.key][0]
    assert [len(entry) for entry in with_ids] == [3] * 77


def test_rows_of_several_chunks_lie_behind_one_another(tiny, tower):
    (dog,) = tower.tokenize("dog")
    long = "dog " + "tree " * 80
    first, last = rows_where(tiny.clip.tokenize(long + "dog"), lambda token: token == dog)
    assert first == 1 and last > 77
    ours, theirs = (encode(tiny.clip, long + word)[0] for word in ("dog", "cat"))
    changed = (ours != theirs).any(dim=-1)[0].nonzero().flatten().tolist()
    assert changed[0] == last  # causal: what stands before is the same


def test_rows_of_several_encoders_lie_side_by_side():
    """What two encoders read in one row is one row."""
    tokens = {"l": [[(1, 1.0), (7, 1.0), (2, 1.0)]], "g": [[(1, 1.0), (7, 1.0), (7, 1.0)]]}
    assert rows_where(tokens, lambda token: token == 7) == (1, 2)
    assert list(tokens_in(tokens)) == [1, 7, 2, 1, 7, 7]


@pytest.mark.parametrize("return_word_ids", [False, True])
@pytest.mark.parametrize(("word", "other"), [("cat", "teddy bear"), ("teddy bear", "cat")])
def test_other_tokens_are_padded_as_the_host_pads(tiny, tower, word, other, return_word_ids):
    def chunk(text):
        return tiny.clip.tokenize(text, return_word_ids=return_word_ids)[tower.key][0]

    ids, others = tower.tokenize(word), tower.tokenize(other)

    def replace(token):
        if token not in ids:
            return None
        return others if token == ids[0] else ()

    ours = with_tokens(chunk(f"a ({word}:1.2) outside"), tower, replace)
    assert [entry[:2] for entry in ours] == [e[:2] for e in chunk(f"a ({other}:1.2) outside")]
    assert {len(entry) for entry in ours} == {3 if return_word_ids else 2}


def test_a_chunk_without_such_a_token_is_itself(tiny, tower):
    chunk = tiny.clip.tokenize("a dog")[tower.key][0]
    assert with_tokens(chunk, tower, lambda token: None) is chunk


def test_too_many_tokens_are_cut_before_the_end(tiny, tower):
    chunk = tiny.clip.tokenize("dog " * 75)[tower.key][0]
    (dog,) = tower.tokenize("dog")
    full = with_tokens(chunk, tower, lambda token: (dog, dog) if token == dog else None)
    assert [token for token, _ in full] == [token for token, _ in chunk]


def test_what_goes_with_an_encoding_comes_into_the_conditioning(tiny):
    clip = tiny.clip.clone()
    stock = clip.patcher.get_model_object("encode_token_weights")
    clip.patcher.add_object_patch(
        "encode_token_weights",
        lambda tokens: with_extra(with_extra(stock(tokens), "ours", {"a": 1}), "ours", {"b": 2}),
    )
    rows, extra = encode_all(clip, "a dog")
    assert extra["ours"] == {"a": 1, "b": 2}
    assert torch.equal(rows, encode(tiny.clip, "a dog")[0])


def encode_all(clip, text):
    from nodes import CLIPTextEncode

    return CLIPTextEncode().encode(clip, text)[0][0]


def test_rows_and_pooled_are_blended_and_the_rest_is_the_seconds():
    plain, other = (torch.zeros(2), None, {"a": 1}), (torch.ones(2), torch.ones(1), {"a": 2})
    rows, pooled, extra = blended(plain, other, lambda a, b: a + 0.25 * (b - a))
    assert rows.tolist() == [0.25, 0.25] and pooled is None and extra == {"a": 2}
