"""A concept's card: what people need to see of it, without what was learned."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .bases import BASES
from .concept import Concept
from .files import describe_concept
from .methods import ClassWord
from .placeholders import attribute_placeholder


@dataclass(frozen=True)
class Card:
    """method, base: as in the concept file; method_name, base_title: for people
    write: what to write in a prompt, such as ``<me> person``
    attributes: what else can be written, such as ``<my-dog:pose2>``
    steps: that were learned, 0 when the file does not say; planned: that were wanted
    """

    method: str
    method_name: str
    base_title: str
    placeholder: str
    class_word: str
    write: str
    attributes: tuple[str, ...]
    base: str
    steps: int = 0
    planned: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def card_of(concept: Concept) -> Card:
    return _card(concept, concept.words)


def read_card(path: Path, name: str) -> Card:
    """The card of a file that the user calls by this name. Raises ConceptFileError."""
    return _card(*describe_concept(path, name))


def _card(concept: Concept, words: Iterable[str]) -> Card:
    attributes = [word for word in words if word] if concept.method.attributes else []
    return Card(
        method=concept.method.key,
        method_name=concept.method.title,
        base_title=BASES[concept.base].title,
        placeholder=concept.placeholder,
        class_word=concept.class_word,
        write=_written(concept),
        attributes=tuple(attribute_placeholder(concept.placeholder, a) for a in attributes),
        base=concept.base,
        steps=_count(concept.training.get("steps_taken")),
        planned=_count(_config(concept).get("steps")),
    )


def _config(concept: Concept) -> Mapping[str, Any]:
    config = concept.training.get("config")
    return config if isinstance(config, Mapping) else {}


def _count(value: Any) -> int:
    """A number that a file says; files of others may say anything."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _written(concept: Concept) -> str:
    if concept.method.class_word is ClassWord.WRITTEN and concept.class_word:
        return f"{concept.placeholder} {concept.class_word}"
    return concept.placeholder
