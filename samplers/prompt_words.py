"""Placeholders in prompts: a tokenizer that puts a concept's tokens where its name is written.

The stock CLIPTextEncode asks the CLIP's tokenizer. Ours is a copy of the host's, with one change: a
written placeholder becomes an `embedding:` that only this copy knows. So weights, chunks of 75 and
the rule that an embedding is not split are the host's own, and no host module is touched.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..concepts.concept import Concept
from ..concepts.errors import PlaceholderError
from ..concepts.methods import ClassWord
from ..concepts.placeholders import attribute_placeholder, find_placeholders
from ..host.base_models import inner_tokenizer
from .strength import Strength

_LEADING = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True, eq=False)
class AppliedConcept:
    """A concept in use.

    own_prompts: its changes of the MODEL's weights act in prompts that name it, nowhere else
    """

    concept: Concept
    strength: Strength
    own_prompts: bool = False

    @property
    def needs_rows(self) -> bool:
        """Whether the MODEL must know in which rows of a conditioning it is named."""
        return self.own_prompts or self.concept.method.needs_rows


@dataclass(frozen=True)
class Mark:
    """Says of a token in a prompt that it was written as a concept: which one, which attribute
    word of it ("" for the bare placeholder), and whether it is the first token of that."""

    applied: AppliedConcept
    attribute: str
    first: bool


class ConceptToken(int):
    """An ordinary token that carries a Mark."""

    personalize_mark: Mark


class Spelling(list[Any]):
    """The tokens of one written placeholder, in the shape of what the host reads from a file:
    learned vectors (d,) or ConceptToken."""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), 1


def applied_concepts(tokenizer: Any) -> tuple[AppliedConcept, ...]:
    """The concepts that a tokenizer knows, in the order they were applied."""
    return getattr(tokenizer, "personalize_applied", ())


def mark_of(token: Any) -> Mark | None:
    """The mark of a token of a tokenised prompt, None for an ordinary one."""
    return getattr(token, "personalize_mark", None)


def with_concept(tokenizer: Any, new: AppliedConcept) -> Any:
    """A copy of the host's tokenizer that also knows the new concept's placeholder.

    Raises PlaceholderError when an applied concept already has that placeholder.
    """
    applied = applied_concepts(tokenizer)
    if any(a.concept.placeholder == new.concept.placeholder for a in applied):
        raise PlaceholderError(
            f"Two applied concepts have the placeholder {new.concept.placeholder}. Rename one of "
            "them with the placeholder input of Load Concept or of its Train node."
        )
    return _teach(getattr(tokenizer, "personalize_stock", tokenizer), (*applied, new))


def _teach(stock: Any, applied: tuple[AppliedConcept, ...]) -> Any:
    outer = copy.copy(stock)
    outer.personalize_applied, outer.personalize_stock = applied, stock
    inner: Any = copy.copy(inner_tokenizer(stock))
    setattr(outer, stock.clip, inner)
    words = _Words(inner, applied)
    if inner.embedding_directory is None:
        inner.embedding_directory = []  # the host looks at embeddings only where there is a folder
    inner.tokenize_with_weights = words.tokenize_with_weights
    inner._try_get_embedding = words.look_up
    return outer


class _Words:
    """Rewrites a prompt's placeholders, and answers when the host looks them up."""

    def __init__(self, inner: Any, applied: Sequence[AppliedConcept]) -> None:
        self._inner = inner
        self._stock_tokenize = inner.tokenize_with_weights
        self._stock_look_up = inner._try_get_embedding
        self._texts: dict[str, str] = {}
        self._spellings: dict[str, Spelling] = {}
        for one in applied:
            self._learn(one)

    def _learn(self, applied: AppliedConcept) -> None:
        concept = applied.concept
        for attribute, spelling in self._spell(applied).items():
            name = concept.placeholder
            if attribute:
                name = attribute_placeholder(name, attribute)
            if applied.strength.is_zero:
                self._texts[name] = "" if attribute else concept.class_word
                continue
            self._texts[name] = f" embedding:{name} "
            self._spellings[name] = spelling

    def _spell(self, applied: AppliedConcept) -> dict[str, Spelling]:
        """What stands in a prompt for the bare placeholder ("") and for each attribute word."""
        concept = applied.concept
        class_ids = self._inner.tokenizer(concept.class_word)["input_ids"][1:-1]
        if concept.method.class_word is ClassWord.KEPT:
            return {"": _spelling(map(ConceptToken, class_ids), applied, "")}
        spellings = {}
        for name, word in concept.words.items():
            tokens: list[Any] = [row.clone() for row in word]
            if not name and concept.method.class_word is ClassWord.APPENDED:
                tokens += map(ConceptToken, class_ids)
            spellings[name] = _spelling(tokens, applied, name)
        return spellings

    def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> Any:
        return self._stock_tokenize(self._rewrite(text), *args, **kwargs)

    def _rewrite(self, text: str) -> str:
        pieces, end = [], 0
        for start, stop, placeholder, attribute in find_placeholders(text):
            name = attribute_placeholder(placeholder, attribute) if attribute else placeholder
            if name in self._texts:
                pieces += [text[end:start], self._texts[name]]
                end = stop
        return "".join([*pieces, text[end:]])

    def look_up(self, written: str) -> tuple[Any, str, str]:
        """What the host reads after `embedding:`: (tokens, name, left over text)."""
        match = _LEADING.match(written)
        if match and match[0] in self._spellings:
            return self._spellings[match[0]], match[0], written[match.end() :].strip()
        return self._stock_look_up(written)


def _spelling(tokens: Iterable[Any], applied: AppliedConcept, attribute: str) -> Spelling:
    spelling = Spelling(tokens)
    for n, token in enumerate(spelling):
        token.personalize_mark = Mark(applied, attribute, first=n == 0)
    return spelling
