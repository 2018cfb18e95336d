"""The words of a prompt, and the rows of the conditioning in which each of them stands."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..concepts.errors import PersonalizeError
from ..concepts.placeholders import attribute_placeholder
from ..host.base_models import towers_of
from ..host.bases.host_base import Tower
from ..host.prompt_tokens import body_of, ends_word, text_of
from .prompt_words import Mark, mark_of

MOST_WORDS = 24
_EMBEDDING = "embedding"

PlacedToken = tuple[int, Any]
"""A row of the conditioning, and the token that stands there."""


@dataclass(frozen=True)
class WrittenWord:
    """text: as it is written, a concept's word as its placeholder; rows: of the conditioning"""

    text: str
    rows: tuple[int, ...]

    @property
    def plain(self) -> str:
        """For comparing: small letters, without punctuation around it."""
        text = self.text.strip().lower()
        return text if text.startswith("<") else re.sub(r"^\W+|\W+$", "", text)


def written_words(clip: Any, prompt: str) -> tuple[list[WrittenWord], int]:
    """The words of a prompt in their order, and how many rows its conditioning has.

    A placeholder is one word, whatever number of rows it takes. Of several text encoders the rows
    are the same.
    """
    tower = towers_of(clip).towers[0]
    words: list[WrittenWord] = []
    start = 0
    for chunk in clip.tokenize(prompt)[tower.key]:
        tokens = ((start + column, token) for column, token in body_of(chunk, tower))
        words += [_word(group, tower) for group in _groups(tokens, tower)]
        start += len(chunk)
    return [word for word in words if word.plain], start


def chosen_words(words: Sequence[WrittenWord], wanted: str) -> list[WrittenWord]:
    """The words, or groups of words behind one another, of a text with commas between them.

    wanted: empty for every word once. A word that is written twice has the rows of both.
    Raises PersonalizeError for a word that the prompt does not have.
    """
    names = [name.strip() for name in re.split(r"[,\n]", wanted) if name.strip()]
    every = list(dict.fromkeys(word.plain for word in words))
    found = [_find(words, name) for name in names or every]
    if len(found) > MOST_WORDS:
        raise PersonalizeError(
            f"The prompt has {len(found)} words; expected {MOST_WORDS} at most. Write those that "
            "you want to see into words, with commas between them."
        )
    if not found:
        raise PersonalizeError("The prompt has no word. Write one, such as: a photo of a dog.")
    return found


def _find(words: Sequence[WrittenWord], name: str) -> WrittenWord:
    parts = [WrittenWord(part, ()).plain for part in name.split()]
    rows: list[int] = []
    for at in range(len(words) - len(parts) + 1):
        group = words[at : at + len(parts)]
        if [word.plain for word in group] == parts:
            rows += [row for word in group for row in word.rows]
    if not rows:
        known = ", ".join(dict.fromkeys(word.plain for word in words)) or "none"
        raise PersonalizeError(
            f"The prompt has no word '{name}'. Its words are: {known}. Write some of these into "
            "words."
        )
    return WrittenWord(name, tuple(rows))


def _groups(tokens: Iterable[PlacedToken], tower: Tower) -> Iterator[list[PlacedToken]]:
    """The tokens of a chunk, word by word."""
    group: list[PlacedToken] = []
    for row, token in tokens:
        if group and _begins(token, group[-1][1]):
            yield group
            group = []
        group.append((row, token))
        if mark_of(token) is None and _is_id(token) and ends_word(token, tower):
            yield group
            group = []
    if group:
        yield group


def _is_id(token: Any) -> bool:
    return isinstance(token, int)


def _begins(token: Any, before: Any) -> bool:
    """Is a token the first one of a word, after one that was not known to be a word's last?"""
    mark, last = mark_of(token), mark_of(before)
    if mark is None or last is None:
        return mark is not last or _is_id(token) != _is_id(before)
    return mark.first or (mark.applied, mark.attribute) != (last.applied, last.attribute)


def _word(group: Sequence[PlacedToken], tower: Tower) -> WrittenWord:
    rows, tokens = zip(*group, strict=True)
    mark = mark_of(tokens[0])
    if mark is not None:
        return WrittenWord(_written(mark), rows)
    return WrittenWord(text_of(tokens, tower) if _is_id(tokens[0]) else _EMBEDDING, rows)


def _written(mark: Mark) -> str:
    placeholder = mark.applied.concept.placeholder
    return attribute_placeholder(placeholder, mark.attribute) if mark.attribute else placeholder
