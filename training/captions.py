"""Captions of the training pictures: prompts of their own, in the place of a random template."""

import re
from collections.abc import Sequence

from ..concepts.errors import TrainingError
from ..concepts.placeholders import find_placeholders
from ..host.text_encoder import TextEncoder
from .prompts import Piece, template_pieces

SUBJECT = "{}"


def check_captions(captions: Sequence[str], pictures: int) -> tuple[str, ...]:
    """One caption for each picture, "" for a picture without; none at all for no captions.

    Raises TrainingError when their number is another one.
    """
    stripped = tuple(" ".join(caption.split()) for caption in captions)
    if not any(stripped):
        return ()
    if len(stripped) != pictures:
        raise TrainingError(
            f"Expected a caption for each picture, got {len(stripped)} captions and {pictures} "
            "pictures. Load Image-Text (from Folder) gives both in the same order."
        )
    return stripped


def caption_template(caption: str, placeholder: str, class_word: str) -> str:
    """The caption with ``{}`` where the subject stands: where it says ``{}`` or the placeholder,
    else at its first class word, else in front of it all.

    A class word behind the placeholder goes with it: what takes the place of ``{}`` has one.
    """
    class_word = class_word.strip()
    follows = rf"(?:\s+{re.escape(class_word)}\b)?" if class_word else ""
    written = [m for m in find_placeholders(caption) if m.placeholder == placeholder]
    if SUBJECT in caption:
        found = re.search(re.escape(SUBJECT) + follows, caption)
    elif written:
        found = re.compile(r"<[^<>]*>" + follows).match(caption, written[0].start)
    elif class_word:
        found = re.search(rf"\b{re.escape(class_word)}\b", caption, re.IGNORECASE)
    else:
        found = None
    if found is None:
        return f"a photo of a {SUBJECT}, {_without(caption)}"
    return f"{_without(caption[: found.start()])}{SUBJECT}{_without(caption[found.end() :])}"


def _without(text: str) -> str:
    """What the caption says beside the subject: a second place for it is left out."""
    return text.replace(SUBJECT, "")


def fitting_pieces(
    text: TextEncoder, template: str, subject: Sequence[Piece], room: int
) -> list[Piece]:
    """The template's pieces, without the last words behind the subject that the prompt has no room
    for: captions that a model has written may be longer than a prompt.

    room: tokens that a prompt holds
    """
    before, _, after = template.partition(SUBJECT)
    words = after.split(" ")
    pieces = template_pieces(template, subject)
    while len(words) > 1 and _tokens(text, pieces) > room:
        words.pop()
        pieces = template_pieces(f"{before}{SUBJECT}{' '.join(words)}", subject)
    return pieces


def _tokens(text: TextEncoder, pieces: Sequence[Piece]) -> int:
    return sum(len(text.tokenize(p)) if isinstance(p, str) else len(p) for p in pieces)
