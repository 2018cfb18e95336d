"""The shapes in which the host holds a tokenised prompt, and what its text encoders return.

Seen so in 0.18 to 0.30: `clip.tokenize(text)` gives a list of chunks for each text encoder, by its
key; a chunk is a list of 77 entries (token, weight) or (token, weight, word id). A token is a
number of the vocabulary or, of an embedding, a vector. All chunks of a prompt lie behind one
another in its conditioning, one row an entry, and the rows of several encoders side by side.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from .bases.host_base import Tower

Entry = tuple[Any, ...]
Chunk = list[Entry]
Tokens = dict[str, list[Chunk]]

_WORD_ENDS = "</w>"  # in the vocabulary of CLIP

Encoded = tuple[Any, ...]
"""Rows, pooled and, from 0.18 at the latest, what else comes into the conditioning, by its key."""


def tokens_in(tokens: Tokens) -> Iterator[Any]:
    """All tokens of a prompt, as all text encoders read them."""
    return (entry[0] for chunks in tokens.values() for chunk in chunks for entry in chunk)


def rows_where(tokens: Tokens, wanted: Callable[[Any], bool]) -> tuple[int, ...]:
    """Rows of the conditioning in which a text encoder reads a wanted token.

    The encoders' rows lie side by side, so a row counts once, however many read such a token in it.
    """
    rows = set()
    for chunks in tokens.values():
        entries = (entry for chunk in chunks for entry in chunk)
        rows |= {row for row, entry in enumerate(entries) if wanted(entry[0])}
    return tuple(sorted(rows))


def body_of(chunk: Chunk, tower: Tower) -> list[tuple[int, Any]]:
    """Columns and tokens of a chunk's words, without its begin, its end and padding."""
    end = _end_of(chunk, tower.tokenizer.end_token)
    return [(column, entry[0]) for column, entry in enumerate(chunk[:end])][1:]


def ends_word(token: int, tower: Tower) -> bool:
    """Whether a number of the vocabulary is the last piece of a word."""
    piece: dict[int, str] = tower.tokenizer.inv_vocab
    return piece.get(int(token), _WORD_ENDS).endswith(_WORD_ENDS)


def text_of(tokens: Sequence[int], tower: Tower) -> str:
    """What numbers of the vocabulary spell."""
    return tower.tokenizer.tokenizer.decode([int(token) for token in tokens]).strip()


def with_tokens(
    chunk: Chunk, tower: Tower, replace: Callable[[Any], Sequence[Any] | None]
) -> Chunk:
    """The chunk with other tokens for some of its own, padded anew; itself if none is replaced.

    replace: gives the tokens that stand for a token, None for itself
    """
    tokenizer = tower.tokenizer
    start = chunk[0]
    body: Chunk = []
    changed = False
    for entry in chunk[1 : _end_of(chunk, tokenizer.end_token)]:
        others = replace(entry[0])
        changed = changed or others is not None
        body += [entry] if others is None else [(token, *entry[1:]) for token in others]
    if not changed:
        return chunk
    body = body[: tokenizer.max_length - 2]
    # the first entry is no word: it has the weight, and the word id, of those that are none
    closing = (tokenizer.end_token, *start[1:])
    padding = (tokenizer.pad_token, *start[1:])
    return [start, *body, closing, *[padding] * (len(chunk) - len(body) - 2)]


def _end_of(chunk: Chunk, end_token: int | None) -> int:
    ends = (
        n for n, entry in enumerate(chunk) if isinstance(entry[0], int) and entry[0] == end_token
    )
    return next(ends, len(chunk))


def blended(plain: Encoded, other: Encoded, blend: Callable[[Tensor, Tensor], Tensor]) -> Encoded:
    """Two encodings of a prompt as one: rows and pooled blended, the rest of the second one."""
    tensors = tuple(
        blend(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a
        for a, b in zip(plain[:2], other[:2], strict=True)
    )
    return tensors + tuple(other[2:])


def with_extra(encoded: Encoded, key: str, extra: dict[str, Any]) -> Encoded:
    """The encoding with more under a key of the conditioning that the host makes of it."""
    more = dict(encoded[2]) if len(encoded) > 2 else {}
    more[key] = {**more.get(key, {}), **extra}
    return (*encoded[:2], more)
