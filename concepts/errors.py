"""Named exceptions. Every message says what was expected, what came and what to do."""

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any

_LONGEST = 80  # characters of a value from outside in a sentence
_LONGEST_MESSAGE = 1000


class PersonalizeError(ValueError):
    """Base of all errors that a user can cause.

    A message of more than a thousand characters repeats something that came from outside: its
    middle is left out.
    """

    def __init__(self, message: str) -> None:
        whole = len(message) <= _LONGEST_MESSAGE
        super().__init__(message if whole else f"{message[:600]} ... {message[-300:]}")


class ConceptFileError(PersonalizeError):
    """A file that is damaged, foreign, unsafe or no concept at all."""


class DiskError(PersonalizeError):
    """A file that cannot be written, moved or deleted."""


class NameTakenError(PersonalizeError):
    """A name for a new file that another one has."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Tell which file an error inside the block is about."""
    try:
        yield
    except PersonalizeError as error:
        raise ConceptFileError(f"'{name}' holds no usable concept. {error}") from error


class PlaceholderError(PersonalizeError):
    """A placeholder that no prompt could hold."""


class BaseModelError(PersonalizeError):
    """A concept, a MODEL, a CLIP or a VAE that do not belong together."""


class TrainingError(PersonalizeError):
    """Training data or settings that cannot work, or a training that went wrong."""


class PictureError(PersonalizeError):
    """A picture or a mask that nothing can be learned, told or scored from."""


class EvaluationError(PersonalizeError):
    """Pictures, masks, prompts or models that cannot be scored."""


def shown(value: Any) -> str:
    """A value from outside for a sentence: one short line, whatever it holds."""
    if isinstance(value, list | tuple | Mapping | Set):
        return f"a {type(value).__name__} of {len(value)}"
    try:
        text = str(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return f"a huge {type(value).__name__}"
    text = " ".join(text[: 4 * _LONGEST].split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
