"""A tokenizer with more words, in the host of this process."""

import copy

import pytest
import torch
from personalize.host.base_models import towers_of
from personalize.host.versions import host_version
from personalize.host.word_tokenizer import WordTokens, with_words, written_as_embedding

pytestmark = pytest.mark.host


class One:
    """One word, `?`, of two vectors."""

    def __init__(self, width):
        self.tokens = WordTokens(torch.ones(2, width))

    def rewrite(self, text):
        return text.replace("?", written_as_embedding("?"))

    def read(self, text):
        return (self.tokens, "?", text[1:].strip()) if text.startswith("?") else None


@pytest.fixture
def known(tiny):
    text = towers_of(tiny.clip)
    return with_words(tiny.clip.tokenizer, {text.towers[0].name: One(text.width)})


def numbers(tokenizer, text):
    (chunks,) = tokenizer.tokenize_with_weights(text).values()
    return [("vector" if torch.is_tensor(t) else t, w) for chunk in chunks for t, w in chunk]


def test_the_words_stand_where_they_are_written(tiny, known):
    plain = numbers(tiny.clip.tokenizer, "a big red dog")
    ours = numbers(known, "a (?:1.3) dog")
    assert ours[:2] == plain[:2] and ours[4:] == plain[4:]
    assert ours[2:4] == [("vector", 1.3)] * 2


def test_all_else_is_the_hosts(tiny, known):
    before = copy.copy(vars(tiny.clip.tokenizer))
    for text in ("", "a dog", "embedding:missing and more", "(a:1.2) [b]"):
        assert numbers(known, text) == numbers(tiny.clip.tokenizer, text)
    numbers(known, "a ? dog")
    assert vars(tiny.clip.tokenizer) == before
    (tower,) = towers_of(tiny.clip).towers
    assert "_try_get_embedding" not in vars(tower.tokenizer)


def test_a_look_up_gives_as_many_results_as_the_hosts(tiny, known):
    (tower,) = towers_of(tiny.clip).towers
    inner = getattr(known, tower.name)
    stock = tower.tokenizer._try_get_embedding("nothing of that name")
    assert len(inner._try_get_embedding("? and more")) == len(stock)
    assert inner._try_get_embedding("? and more")[-1] == "and more"
    assert host_version() > (0, 3)


def test_another_packs_own_tokenizing_is_kept(tiny):
    stock = copy.copy(tiny.clip.tokenizer)
    text = towers_of(tiny.clip)
    name = text.towers[0].name
    inner = copy.copy(getattr(stock, name))
    theirs = inner.tokenize_with_weights
    inner.tokenize_with_weights = lambda text, *args, **kwargs: theirs(f"{text} cat", *args)
    setattr(stock, name, inner)
    ours = with_words(stock, {name: One(text.width)})
    assert numbers(ours, "a dog") == numbers(tiny.clip.tokenizer, "a dog cat")
