"""Placeholders in prompts: a concept's tokens where its name is written.

The stock CLIPTextEncode asks the CLIP's tokenizer. Ours is a copy of the host's that knows more
words (`host/word_tokenizer.py`): the placeholders of applied concepts.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..concepts.concept import Concept
from ..concepts.errors import PlaceholderError
from ..concepts.methods import ClassWord
from ..concepts.placeholders import attribute_placeholder, replace_placeholders
from ..host.base_models import towers_of
from ..host.bases.host_base import Tower
from ..host.word_tokenizer import WordTokens, with_words, written_as_embedding
from .prompt_report import tell_prompt
from .strength import Strength

if TYPE_CHECKING:
    from comfy.sd import CLIP

_LEADING = re.compile(r"<[^<>\s]+>")


class NeverCopied:
    """Stays itself in a copy. Packs deep-copy the tokens of a prompt, and those of one concept must
    still be told from those of another by which object they belong to."""

    def __copy__(self) -> "NeverCopied":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "NeverCopied":
        return self


@dataclass(frozen=True, eq=False)
class AppliedConcept(NeverCopied):
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
class Mark(NeverCopied):
    """Marks a token as part of a written placeholder.

    attribute: the attribute word of the concept that was written, "" for the bare placeholder
    first: whether the token is the first one of what was written
    """

    applied: AppliedConcept
    attribute: str
    first: bool


class ConceptToken(int):
    """A number of the vocabulary that carries a Mark; learned vectors carry theirs themselves."""

    personalize_mark: Mark


def applied_concepts(tokenizer: Any) -> tuple[AppliedConcept, ...]:
    """The concepts that a tokenizer knows, in the order they were applied."""
    return getattr(tokenizer, "personalize_applied", ())


def mark_of(token: Any) -> Mark | None:
    """The mark of a token of a tokenised prompt, None for an ordinary one."""
    return getattr(token, "personalize_mark", None)


def tokenizer_with_concept(clip: "CLIP", new: AppliedConcept) -> Any:
    """A copy of the CLIP's tokenizer that also knows the new concept's placeholder.

    Raises PlaceholderError when an applied concept already has that placeholder.
    """
    applied = applied_concepts(clip.tokenizer)
    if any(a.concept.placeholder == new.concept.placeholder for a in applied):
        raise PlaceholderError(
            f"Two applied concepts have the placeholder {new.concept.placeholder}. Rename one of "
            "them with the placeholder input of Load Concept or of its Train node."
        )
    applied, text = (*applied, new), towers_of(clip)
    words = {
        tower.name: PlaceholderWords(tower, lambda word, n=n: text.split(word)[n], applied)
        for n, tower in enumerate(text.towers)
    }
    return with_words(clip.tokenizer, words, personalize_applied=applied)


class PlaceholderWords:
    """The placeholders of applied concepts, as one text encoder reads them (`MoreWords`).

    own_part: gives this encoder's vectors of a word
    """

    def __init__(
        self,
        tower: Tower,
        own_part: Callable[[Tensor], Tensor],
        applied: Sequence[AppliedConcept],
    ) -> None:
        self._tower, self._own_part = tower, own_part
        self._texts: dict[str, str] = {}  # what takes a placeholder's place in a prompt
        self._words: dict[str, WordTokens] = {}
        for one in applied:
            self._add(one)

    def _add(self, applied: AppliedConcept) -> None:
        concept = applied.concept
        for attribute, tokens in self._tokens_of(concept).items():
            name = concept.placeholder
            if attribute:
                name = attribute_placeholder(name, attribute)
            if applied.strength.is_zero:
                self._texts[name] = concept.class_word_of(attribute)
                continue
            self._texts[name] = written_as_embedding(name)
            self._words[name] = _marked(tokens, applied, attribute)

    def _tokens_of(self, concept: Concept) -> dict[str, list[Any]]:
        """What stands in a prompt for the bare placeholder ("") and for each attribute word."""
        if concept.method.class_word is ClassWord.KEPT:
            return {"": self._class_tokens(concept, "")}
        tokens: dict[str, list[Any]] = {
            name: [row.clone() for row in self._own_part(word)]
            for name, word in concept.words.items()
        }
        if concept.method.class_word is ClassWord.APPENDED:
            for name in tokens:
                tokens[name] += self._class_tokens(concept, name)
        return tokens

    def _class_tokens(self, concept: Concept, word: str) -> list[Any]:
        return [ConceptToken(t) for t in self._tower.tokenize(concept.class_word_of(word))]

    def rewrite(self, text: str) -> str:
        tell_prompt(text, self._texts)
        return replace_placeholders(text, self._texts)

    def read(self, text: str) -> tuple[WordTokens, str, str] | None:
        match = _LEADING.match(text)
        if match is None or match[0] not in self._words:
            return None
        return self._words[match[0]], match[0], text[match.end() :].strip()


def _marked(tokens: Iterable[Any], applied: AppliedConcept, attribute: str) -> WordTokens:
    marked = WordTokens(tokens)
    for n, token in enumerate(marked):
        token.personalize_mark = Mark(applied, attribute, first=n == 0)
    return marked
