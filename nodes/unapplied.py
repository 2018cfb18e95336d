"""Concepts that a prompt names and whose CLIP has come past every Apply Concept.

No tokenizer of ours sees such a prompt, so it is looked for when the workflow is queued: along the
`clip` inputs, from the node that has the text to the loader. Where a prompt meets an Apply Concept,
`samplers/prompt_report.py` tells what becomes of it.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..concepts.placeholders import find_placeholders
from ..host.browsers import tell_browsers

Prompt = Mapping[str, Mapping[str, Any]]  # the API format: node id -> {"class_type", "inputs"}
UNAPPLIED_EVENT = "personalize.unapplied"
APPLY = "PersonalizeApplyConcept"
_OURS = "Personalize"


@dataclass(frozen=True)
class Unapplied:
    """The words of a node's text that stay plain text, though concepts have them."""

    node: str
    text: str
    words: tuple[str, ...]


def look_at(prompt: Prompt, page: str, saved: Callable[[], Collection[str]]) -> None:
    """Tell of each such text in the log and to the page.

    saved: placeholders of the saved concepts; asked for only when a text has one that this
        workflow does not make
    """
    for one in unapplied(prompt, saved):
        logging.warning(
            "Personalize, prompt of node %s: %s stays plain text, since its CLIP does not come "
            "from an Apply Concept with that concept.",
            one.node,
            ", ".join(one.words),
        )
        news = {"node": one.node, "text": one.text, "unknown": one.words}
        tell_browsers(UNAPPLIED_EVENT, news, page=page)


def unapplied(prompt: Prompt, saved: Callable[[], Collection[str]]) -> Iterator[Unapplied]:
    """All texts of a prompt that name concepts and are encoded past every Apply Concept."""
    made = set(_placeholders_made(prompt))
    for node, text in _texts(prompt):
        written = dict.fromkeys(mention.placeholder for mention in find_placeholders(text))
        if not written or not _passes_by(prompt, node):
            continue
        known = made if made.issuperset(written) else made | set(saved())
        words = tuple(word for word in written if word in known)
        if words:
            yield Unapplied(node, text, words)


def _texts(prompt: Prompt) -> Iterator[tuple[str, str]]:
    """Every text that other nodes than ours encode with a CLIP."""
    for node in prompt:
        inputs = _inputs(prompt, node)
        if not _is_ours(prompt, node) and _source(inputs.get("clip")):
            yield from ((node, text) for text in inputs.values() if isinstance(text, str))


def _passes_by(prompt: Prompt, node: str) -> bool:
    """Does its CLIP come from a loader, and on the whole way from no Apply Concept?"""
    for _ in range(len(prompt)):
        source = _source(_inputs(prompt, node).get("clip"))
        if source is None:
            # what gets its CLIP another way than by an input `clip` may do anything with it
            links = any(map(_source, _inputs(prompt, node).values()))
            return bool(_kind(prompt, node)) and not links
        if _kind(prompt, source) == APPLY:
            return False
        node = source
    return False


def _placeholders_made(prompt: Prompt) -> Iterator[str]:
    """Of the nodes that make, load or rename a concept."""
    for node in prompt:
        written = _inputs(prompt, node).get("placeholder")
        if _is_ours(prompt, node) and isinstance(written, str):
            yield written.strip()


def _is_ours(prompt: Prompt, node: str) -> bool:
    return _kind(prompt, node).startswith(_OURS)


def _kind(prompt: Prompt, node: str) -> str:
    content = prompt.get(node)
    return str(content.get("class_type", "")) if isinstance(content, Mapping) else ""


def _inputs(prompt: Prompt, node: str) -> Mapping[str, Any]:
    content = prompt.get(node)
    inputs = content.get("inputs") if isinstance(content, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def _source(value: Any) -> str | None:
    """The node that a link comes from, None for what is no link."""
    linked = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    return value[0] if linked else None
