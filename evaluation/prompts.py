"""What a prompt says in plain words, which is what CLIP-T compares a picture with."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from ..concepts.errors import EvaluationError
from ..concepts.placeholders import find_placeholders

_WEIGHTED = re.compile(r"(?<!\\)\(([^()]*?)(?::\s*[-+]?[\d.]+\s*)?(?<!\\)\)")


def plain_prompt(
    prompt: str,
    class_word: str,
    placeholder: str = "",
    class_words: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The prompt with the class word in the placeholder's place, as all papers do.

    "a <my-dog> dog on the beach" becomes "a dog on the beach": a class word that already follows
    is not said twice. Attribute words such as <my-dog:pose2> are left out, weights such as
    (dog:1.2) and <my-dog:1.2> are read as their text.
    placeholder: the concept's; empty: the only one in the prompt, whatever it is.
    class_words: of attribute words that are subjects of their own
    Raises EvaluationError for a prompt with another placeholder, or with nothing in it.
    """
    class_word = class_word.strip()
    found = find_placeholders(prompt)
    _check_known({mention.placeholder for mention in found}, prompt, placeholder.strip())
    if found and not class_word:
        raise EvaluationError(
            f"The class_word is empty, but the prompt '{prompt}' has the placeholder "
            f"{found[0].placeholder}. Write what the subject is, such as dog: it is scored in its "
            "place."
        )
    for mention in reversed(found):
        rest = prompt[mention.end :]
        word = class_words.get(mention.attribute, "") if mention.attribute else class_word
        if word and re.match(rf"\s+{re.escape(word)}\b", rest, re.IGNORECASE):
            word = ""
        prompt = prompt[: mention.start] + word + rest
    plain = " ".join(_without_weights(prompt).split())
    if not plain:
        raise EvaluationError("The prompt is empty. Write what the pictures were made of.")
    return plain


def _check_known(written: set[str], prompt: str, placeholder: str) -> None:
    unknown = written - {placeholder}
    if not unknown or (not placeholder and len(written) == 1):
        return
    names = ", ".join(sorted(unknown))
    if placeholder:
        raise EvaluationError(
            f"The prompt '{prompt}' has {names}, but the concept's placeholder is {placeholder}. "
            "Correct one of them, or write what the other subject is in plain words."
        )
    raise EvaluationError(
        f"The prompt '{prompt}' has more than one placeholder: {names}. Name the one that is "
        "scored in the input placeholder, and write what the others are in plain words."
    )


def _without_weights(text: str) -> str:
    """``a (very (wet:0.8) dog:1.2)`` -> ``a very wet dog``; escaped brackets are plain ones."""
    before = None
    while before != text:
        before, text = text, _WEIGHTED.sub(r"\1", text)
    return text.replace("\\(", "(").replace("\\)", ")")
