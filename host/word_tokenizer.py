"""A copy of a CLIP's tokenizer that knows more words than the host's own.

The host reads `embedding:name` in a prompt from a file, through `_try_get_embedding` of the
tokenizer of each text encoder. The copy answers there first. So weights, chunks of 75 and the rule
that an embedding is not split are the host's own, and no module of the host is touched.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .versions import host_version

_THREE_RESULTS_SINCE = (0, 27)
"""Since then `_try_get_embedding` returns the name that it read, too, between its two results."""


class WordTokens(list[Any]):
    """The tokens of a word in the shape of what the host reads from a file, (n, d): vectors (d,) or
    numbers of the vocabulary, which the host puts into a prompt as they are."""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), 1


class MoreWords(Protocol):
    """Words that one text encoder reads beside those of the host."""

    def rewrite(self, text: str) -> str:
        """A prompt with `written_as_embedding` in the place of the words."""
        ...

    def read(self, text: str) -> tuple[WordTokens, str, str] | None:
        """The word at the start of a text behind `embedding:`, its name and the text behind it;
        None when no word stands there."""
        ...


def written_as_embedding(name: str) -> str:
    """How a prompt names an embedding; the host wants white space before it."""
    return f" embedding:{name} "


def with_words(tokenizer: Any, words: Mapping[str, MoreWords]) -> Any:
    """A copy of a CLIP's tokenizer, whose own tokenizers, by encoder, know more words."""
    outer = copy.copy(tokenizer)
    for encoder, more in words.items():
        setattr(outer, encoder, _with_words(getattr(tokenizer, encoder), more))
    return outer


def _with_words(stock: Any, words: MoreWords) -> Any:
    inner = copy.copy(stock)
    if inner.embedding_directory is None:
        inner.embedding_directory = []  # the host looks at embeddings only where there is a folder
    # those of the copy, and not of its class: another pack may have set its own on the tokenizer
    stock_tokenize, stock_look_up = inner.tokenize_with_weights, inner._try_get_embedding

    def tokenize_with_weights(text: str, *args: Any, **kwargs: Any) -> Any:
        return stock_tokenize(words.rewrite(text), *args, **kwargs)

    def look_up(text: str) -> Sequence[Any]:
        found = words.read(text)
        if found is None:
            return stock_look_up(text)
        tokens, name, rest = found
        return (tokens, name, rest) if host_version() >= _THREE_RESULTS_SINCE else (tokens, rest)

    inner.tokenize_with_weights = tokenize_with_weights
    inner._try_get_embedding = look_up
    return inner
