"""A concept: what a method learned about a subject, ready to be used in a prompt or saved."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from .bases import BASES
from .elite import EliteEncoder
from .errors import ConceptFileError, PersonalizeError, shown
from .methods import METHODS, Method
from .placeholders import check_placeholder
from .schema import MOST_TEXT
from .tensors import copied, is_finite

MAX_VECTORS = 75
"""A prompt chunk has 77 positions, two of them for the begin and end tokens."""


_ATTRIBUTE = re.compile(r"[a-z]{1,100}\d{0,9}")


@dataclass(frozen=True)
class Concept:
    """What was learned about one subject.

    words: word embeddings in fp32; ``""`` is what the bare placeholder stands for, (n, text_width),
        any other key is an attribute word written ``<placeholder:key>``, (1, text_width)
    tensors: what a method learned besides words, under readable names
    class_word: what the subject is, such as "dog"; takes the placeholder's place at strength 0
    class_words: the same of attribute words that are subjects of their own, learned together with
        the first; no others have one
    training: config, seed, steps taken and versions, as plain JSON values
    encoder: of an ELITE concept, whose projections it is drawn with; large and shared, so a file
        holds its name and digest only (in `training`)
    pictures: small copies of what it was learned from, (N, side, side, 3), uint8; never in its file
    """

    method: Method
    base: str
    text_width: int
    placeholder: str
    class_word: str = ""
    words: Mapping[str, Tensor] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    class_words: Mapping[str, str] = field(default_factory=dict)
    encoder: EliteEncoder | None = field(default=None, repr=False, compare=False)
    pictures: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "placeholder", check_placeholder(self.placeholder))
        object.__setattr__(self, "class_word", normalized_class_word(self.class_word))
        words = {name: check_word(name, word, self.text_width) for name, word in self.words.items()}
        object.__setattr__(self, "words", MappingProxyType(words))
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        object.__setattr__(self, "training", MappingProxyType(dict(self.training)))
        class_words = {name: normalized_class_word(w) for name, w in self.class_words.items()}
        object.__setattr__(self, "class_words", MappingProxyType(class_words))
        if self.base not in BASES:
            known = ", ".join(BASES)
            raise PersonalizeError(
                f"Unknown base model '{shown(self.base)}', expected one of {known}. A newer "
                "version of Personalize may know it: update."
            )

    @property
    def title(self) -> str:
        """How messages call it: "DETEX concept <my-dog>"."""
        return f"{self.method.title} concept {self.placeholder}"

    @property
    def base_title(self) -> str:
        return f"{BASES[self.base].title} (text width {self.text_width})"

    def class_word_of(self, word: str) -> str:
        """What stands in a prompt at strength 0 for a word of the concept, "" for the placeholder;
        empty for attributes that only say something of the subject."""
        return self.class_words.get(word, "") if word else self.class_word

    def __copy__(self) -> "Concept":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Concept":
        """Itself: nothing in it changes, and its tensors may be large."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, which knows no read-only mapping and should not hold the method's code."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
        return _unpickled, ({**plain, "method": self.method.key},)

    def renamed(self, placeholder: str) -> "Concept":
        """The same concept under another placeholder."""
        return replace(self, placeholder=placeholder)


def _unpickled(values: dict[str, Any]) -> Concept:
    return Concept(**{**values, "method": METHODS[values["method"]]})


def normalized_class_word(written: str) -> str:
    """The class word with single spaces; raise for one that is longer than any prompt."""
    if len(written) > MOST_TEXT:
        raise PersonalizeError(
            f"The class word has {len(written)} characters. Expected a word for the subject, such "
            f"as dog, of at most {MOST_TEXT}."
        )
    return " ".join(written.split())


def check_attribute(name: str) -> None:
    """Refuse what cannot stand behind the colon of ``<my-dog:pose2>``."""
    if not _ATTRIBUTE.fullmatch(name):
        raise ConceptFileError(
            f"'{shown(name)}' is no name for an attribute word. Expected a lower-case word and a "
            "number, such as pose2."
        )


def check_word(name: str, word: Tensor, width: int) -> Tensor:
    """A word's embedding as contiguous fp32 (n, width) on the CPU; raise with a sentence."""
    if name:
        check_attribute(name)
    if word.ndim == 1:
        word = word[None]
    if word.ndim != 2 or word.shape[1] != width or not 1 <= word.shape[0] <= MAX_VECTORS:
        raise ConceptFileError(
            f"Expected 1 to {MAX_VECTORS} vectors of width {width} for a word, got a tensor of "
            f"shape {tuple(word.shape)}."
        )
    if not word.is_floating_point():
        raise ConceptFileError(
            f"Expected vectors of floating point numbers for a word, got {word.dtype}. Save it as "
            "fp32."
        )
    word = copied(word, torch.float32)
    if not is_finite(word):
        raise ConceptFileError(
            "The concept's word holds NaN or infinite numbers, so no prompt could be encoded with "
            "it. Its training went wrong or its file is damaged: train it again."
        )
    return word
