"""The words of a prompt, and the rows of the conditioning in which each of them stands."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..concepts.errors import PersonalizeError
from ..concepts.placeholders import attribute_placeholder
from ..host.base_models import towers_of
from .prompt_words import Mark, mark_of

MOST_WORDS = 24
_WORD_ENDS = "</w>"
_EMBEDDING = "embedding"


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
    chunks = clip.tokenize(prompt)[tower.key]
    words: list[WrittenWord] = []
    start = 0
    for chunk in chunks:
        words += _words_of(chunk, start, tower.tokenizer)
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


def _words_of(chunk: Sequence[Any], start: int, tokenizer: Any) -> Iterator[WrittenWord]:
    """The words in one chunk of tokens, without its begin, end and padding."""
    group: list[tuple[int, Any]] = []  # rows and tokens of the word that is not complete yet
    for column, (token, *_) in enumerate(chunk[1:], start=1):
        if _is_id(token) and token == tokenizer.end_token:
            break
        if group and _begins(token, group[-1][1]):
            yield _word(group, tokenizer)
            group = []
        group.append((start + column, token))
        if mark_of(token) is None and _is_id(token) and _ends_word(token, tokenizer):
            yield _word(group, tokenizer)
            group = []
    if group:
        yield _word(group, tokenizer)


def _is_id(token: Any) -> bool:
    return isinstance(token, int)


def _ends_word(token: int, tokenizer: Any) -> bool:
    return str(tokenizer.inv_vocab.get(int(token), _WORD_ENDS)).endswith(_WORD_ENDS)


def _begins(token: Any, before: Any) -> bool:
    """Is a token the first one of a word, after one that was not known to be a word's last?"""
    mark, last = mark_of(token), mark_of(before)
    if mark is None or last is None:
        return mark is not last or _is_id(token) != _is_id(before)
    return mark.first or (mark.applied, mark.attribute) != (last.applied, last.attribute)


def _word(group: Sequence[tuple[int, Any]], tokenizer: Any) -> WrittenWord:
    rows = tuple(row for row, _ in group)
    first = group[0][1]
    mark = mark_of(first)
    if mark is not None:
        return WrittenWord(_written(mark), rows)
    if not _is_id(first):
        return WrittenWord(_EMBEDDING, rows)
    return WrittenWord(tokenizer.tokenizer.decode([int(token) for _, token in group]).strip(), rows)


def _written(mark: Mark) -> str:
    placeholder = mark.applied.concept.placeholder
    return attribute_placeholder(placeholder, mark.attribute) if mark.attribute else placeholder
