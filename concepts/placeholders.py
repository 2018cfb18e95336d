"""Placeholders: the words of a prompt that stand for a concept, such as ``<my-dog>``.

An attribute word of a concept is written with a colon: ``<my-dog:pose2>``.
"""

import re
from pathlib import PurePath

from .errors import PlaceholderError
from .schema import MOST_TEXT

_NAME = r"[^\W_][\w.+-]*"
_PLACEHOLDER = re.compile(rf"<{_NAME}>")
_WRITTEN = re.compile(rf"<({_NAME})(?::({_NAME}))?>")
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


def find_placeholders(text: str) -> list[tuple[int, int, str, str]]:
    """All written placeholders as (start, end, placeholder, attribute); attribute "" for none."""
    return [
        (m.start(), m.end(), f"<{m.group(1)}>", m.group(2) or "") for m in _WRITTEN.finditer(text)
    ]
