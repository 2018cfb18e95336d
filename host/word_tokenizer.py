"""A CLIP's tokenizer that knows more words than the host's own.

The host reads `embedding:name` in a prompt from a file, through `_try_get_embedding` of the
tokenizer of each text encoder. Ours answers there first. So weights, chunks of 75 and the rule that
an embedding is not split are the host's own, and no module of the host is touched.

What is added stands in a class made at run time, below the tokenizer's own class, and never among
an object's attributes. Other packs copy a tokenizer, set methods on the copy and delete them again,
or walk its `__dict__` for the tokenizers of its text encoders: all of that leaves a class as it is.
"""

import copy
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .versions import host_version

_THREE_RESULTS_SINCE = (0, 27)
"""Since then `_try_get_embedding` returns the name that it read, too, between its two results."""

_METHODS = ("tokenize_with_weights", "_try_get_embedding")


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


def with_words(tokenizer: Any, words: Mapping[str, MoreWords], **about: Any) -> Any:
    """A copy of a CLIP's tokenizer, whose own tokenizers, by encoder, know more words.

    Of a tokenizer that knows more words already, these take the place of the former ones.
    about: attributes that the copy has besides, as it were of its class
    """
    outer = _of_class_below(copy.copy(tokenizer), about)
    for encoder, more in words.items():
        setattr(outer, encoder, _with_words(getattr(tokenizer, encoder), more))
    return outer


def _of_class_below(tokenizer: Any, attributes: Mapping[str, Any]) -> Any:
    """The same object with more attributes, in a class of its own below the host's."""
    stock = getattr(type(tokenizer), "personalize_stock_class", type(tokenizer))
    same = {name: getattr(stock, name) for name in ("__module__", "__qualname__", "__doc__")}
    added = {**same, "personalize_stock_class": stock, **attributes}
    tokenizer.__class__ = type(stock.__name__, (stock,), added)
    return tokenizer


def _with_words(tokenizer: Any, words: MoreWords) -> Any:
    inner = copy.copy(tokenizer)
    if inner.embedding_directory is None:
        inner.embedding_directory = []  # the host looks at embeddings only where there is a folder
    # what another pack has set on the object would hide our methods: ours call it instead
    theirs = {name: vars(inner).pop(name) for name in _METHODS if name in vars(inner)}
    theirs = {**getattr(type(inner), "personalize_theirs", {}), **theirs}
    stock = getattr(type(inner), "personalize_stock_class", type(inner))
    if theirs:  # they may call the tokenizer that they were set on, which must know our words, too
        getattr(type(inner), "personalize_later", set()).add(words)
    later: weakref.WeakSet[MoreWords] = weakref.WeakSet()

    def tokenize_with_weights(self: Any, text: str, *args: Any, **kwargs: Any) -> Any:
        call = theirs.get("tokenize_with_weights") or stock.tokenize_with_weights.__get__(self)
        return call(words.rewrite(text), *args, **kwargs)

    def look_up(self: Any, text: str) -> Sequence[Any]:
        readings = (known.read(text) for known in (words, *later))
        found = next((one for one in readings if one is not None), None)
        if found is None and not text.strip():
            return (None, "", "") if host_version() >= _THREE_RESULTS_SINCE else (None, "")
        if found is None:
            call = theirs.get("_try_get_embedding") or stock._try_get_embedding.__get__(self)
            return call(text)
        tokens, name, rest = found
        return (tokens, name, rest) if host_version() >= _THREE_RESULTS_SINCE else (tokens, rest)

    added = {
        "tokenize_with_weights": tokenize_with_weights,
        "_try_get_embedding": look_up,
        "personalize_theirs": theirs,
        "personalize_later": later,
    }
    return _of_class_below(inner, added)
