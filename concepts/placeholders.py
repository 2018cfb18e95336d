"""Placeholders: the words of a prompt that stand for a concept, such as ``<my-dog>``.

An attribute word of a concept is written with a colon: ``<my-dog:pose2>``. A number behind a colon
is a weight of the prompt: ``<my-dog:0.8>``, ``<my-dog:pose2:1.2>``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePath

from .errors import PlaceholderError
from .schema import MOST_TEXT

_NAME = r"[^\W_][\w.+-]*"
_PLACEHOLDER = re.compile(rf"<{_NAME}>")
_WEIGHT = r"\d+(?:\.\d*)?|\.\d+"
_OTHERS = r"(?:lora|lyco|hypernet):"  # of other programs
_OPEN, _CLOSE = r"[<\uff1c]\s*", r"\s*[>\uff1e]"  # also the full-width brackets of other keyboards
_WRITTEN = re.compile(
    rf"(?:embedding:)?{_OPEN}(?!{_OTHERS})({_NAME})"
    rf"(?::(?!(?:{_WEIGHT}){_CLOSE})({_NAME}))?(?::({_WEIGHT}))?{_CLOSE}",
    re.IGNORECASE,
)
_NEAR = 0.7  # of difflib's ratio: one or two letters of a short word
_HOW = "Write a name in angle brackets, such as <my-dog>: letters, digits, '-', '_' and '.'."


def check_placeholder(text: str) -> str:
    """Return the placeholder without outer white space; raise PlaceholderError with a sentence."""
    placeholder = text.strip()
    if not placeholder:
        raise PlaceholderError(f"The placeholder is empty. {_HOW}")
    if len(placeholder) > MOST_TEXT:
        raise PlaceholderError(
            f"The placeholder has {len(placeholder)} characters, more than {MOST_TEXT}. {_HOW}"
        )
    if any(c.isspace() for c in placeholder):
        raise PlaceholderError(f"The placeholder '{placeholder}' has white space in it. {_HOW}")
    if "<" not in placeholder and ">" not in placeholder:
        raise PlaceholderError(
            f"The placeholder '{placeholder}' is an ordinary word, so prompts that only mean that "
            f"word would change too. Use <{placeholder}> instead."
        )
    if not _PLACEHOLDER.fullmatch(placeholder):
        raise PlaceholderError(f"The placeholder '{placeholder}' cannot stand in a prompt. {_HOW}")
    return placeholder


def placeholder_from_name(name: str) -> str:
    """A placeholder from a file name or a foreign token: ``cats/My cat.pt`` -> ``<My-cat>``."""
    stem = PurePath(name.replace("\\", "/")).name
    stem = re.sub(r"\.(safetensors|sft|pt|pth|bin|ckpt)$", "", stem, flags=re.IGNORECASE)
    cleaned = re.sub(r"[^\w.+-]+", "-", stem[:MOST_TEXT]).strip("-_.+")[: MOST_TEXT // 2]
    return f"<{cleaned or 'concept'}>"


def attribute_placeholder(placeholder: str, attribute: str) -> str:
    """``<my-dog>``, ``pose2`` -> ``<my-dog:pose2>``."""
    return f"{placeholder[:-1]}:{attribute}>"


@dataclass(frozen=True)
class Mention:
    """A placeholder as it is written in a prompt: ``text[start:end]``.

    word: without the weight, as a concept knows it: ``<my-dog>`` or ``<my-dog:pose2>``
    weight: as it is written in ``<my-dog:0.8>``, "" for none
    exact: written in plain brackets without space; other spellings may mean something else, such as
        "a < b > c"
    """

    start: int
    end: int
    placeholder: str
    attribute: str = ""
    weight: str = ""
    exact: bool = True

    @property
    def word(self) -> str:
        if not self.attribute:
            return self.placeholder
        return attribute_placeholder(self.placeholder, self.attribute)


def find_placeholders(text: str) -> list[Mention]:
    """All written placeholders, also as ``< my-dog >``, in full-width brackets, and as
    ``embedding:<my-dog>``. What other programs read in angle brackets, such as
    ``<lora:name:0.8>``, is none."""
    return [
        Mention(m.start(), m.end(), f"<{m[1]}>", m[2] or "", m[3] or "", m[0][:2] == f"<{m[1][0]}")
        for m in _WRITTEN.finditer(text)
    ]


def replace_placeholders(text: str, texts: Mapping[str, str]) -> str:
    """The prompt with a text for each known word. A weight in the brackets becomes the host's own:
    ``<my-dog:0.8>`` is ``(<my-dog>:0.8)``."""
    pieces, end = [], 0
    for mention in find_placeholders(text):
        if mention.word not in texts:
            continue
        new = texts[mention.word]
        pieces += [
            text[end : mention.start],
            f"({new}:{mention.weight})" if mention.weight else new,
        ]
        end = mention.end
    return "".join([*pieces, text[end:]])


def nearest_word(word: str, known: Iterable[str]) -> str:
    """The known word that this one may be a misspelling of, "" when none is near."""
    candidates = {one.casefold(): one for one in known}
    found = get_close_matches(word.casefold(), candidates, n=1, cutoff=_NEAR)
    return candidates[found[0]] if found else ""
