"""Concepts that a prompt names and that an Apply Concept does not reach: told when it is queued.

A CLIP that has come past every Apply Concept has no tokenizer of ours, and a MODEL that has come
past it has none of the concept's weights; so both are looked for in the workflow, along the inputs
`clip` and `model` back to their loaders. Where a prompt meets an Apply Concept,
`samplers/prompt_report.py` tells what becomes of it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from ..concepts.cards import Card
from ..concepts.methods import METHODS, Method
from ..concepts.placeholders import find_placeholders
from ..host.browsers import tell_browsers
from . import NODE_CLASS_MAPPINGS
from .queued import APPLY, MODELS, Queued

UNAPPLIED_EVENT = "personalize.unapplied"
PAST_MODEL_EVENT = "personalize.past_model"

Saved = Callable[[], Mapping[str, Card]]
"""Cards of the saved concepts by name; asked for only when a prompt cannot be judged without."""


@dataclass(frozen=True)
class Unapplied:
    """The words of a node's text that stay plain text, though concepts have them."""

    node: str
    text: str
    words: tuple[str, ...]

    event = UNAPPLIED_EVENT

    @property
    def sentence(self) -> str:
        return (
            f"prompt of node {self.node}: {', '.join(self.words)} stays plain text, since its CLIP "
            "does not come from an Apply Concept with that concept."
        )

    @property
    def news(self) -> dict[str, Any]:
        """For the page."""
        return {"node": self.node, "text": self.text, "unknown": self.words}


@dataclass(frozen=True)
class PastModel:
    """The words of prompts that a node draws with a MODEL without their concepts' weights."""

    node: str
    words: tuple[str, ...]

    event = PAST_MODEL_EVENT

    @property
    def sentence(self) -> str:
        return (
            f"node {self.node}: the weights of {', '.join(self.words)} are missing, since the "
            "MODEL does not come from the Apply Concept that the prompt's CLIP comes from."
        )

    @property
    def news(self) -> dict[str, Any]:
        """For the page."""
        return {"node": self.node, "words": self.words}


def look_at(prompt: Mapping[str, Mapping[str, Any]], page: str, saved: Saved) -> None:
    """Tell of each such word in the log and to the page."""
    queued, saved = Queued(prompt), cache(saved)
    for one in chain(unapplied(queued, saved), past_model(queued, saved)):
        logging.warning("Personalize, %s", one.sentence)
        tell_browsers(one.event, one.news, page=page)


def unapplied(queued: Queued, saved: Saved) -> Iterator[Unapplied]:
    """All texts that name concepts and are encoded past every Apply Concept."""
    made = set(_placeholders_made(queued))
    for node, text in queued.texts():
        written = _placeholders_in(text)
        if not written or not _passes_by(queued, node):
            continue
        known = made
        if not made.issuperset(written):
            known = made | {card.placeholder for card in saved().values()}
        words = tuple(word for word in written if word in known)
        if words:
            yield Unapplied(node, text, words)


def past_model(queued: Queued, saved: Saved) -> Iterator[PastModel]:
    """All nodes that draw prompts whose CLIP has met an Apply Concept that their MODEL has not.

    Only of concepts that change the MODEL, and only where the MODEL is seen to come from a loader.
    """
    texts = {node: text for node, text in queued.texts() if _placeholders_in(text)}
    for node in queued if texts else ():
        models = list(queued.chain(node, "model"))
        if not models or queued.is_ours(node) or not queued.is_loader(models[-1]):
            continue
        there = {_applied(queued, one, saved)[0] for one in models if queued.kind(one) == APPLY}
        missing = dict.fromkeys(
            word
            for prompt in _prompts_of(queued, node)
            for word in _words_with_weights(queued, prompt, texts.get(prompt, ""), saved)
            if word not in there
        )
        if missing:
            yield PastModel(node, tuple(missing))


def _prompts_of(queued: Queued, node: str) -> Iterator[str]:
    """The nodes before its conditionings, as far as to nodes that draw with a MODEL themselves."""
    seen = {node}
    ways = [node]
    while ways:
        for name, source in queued.sources(ways.pop()).items():
            if name not in MODELS and source not in seen:
                seen.add(source)
                if not queued.source(source, "model"):
                    ways.append(source)
                    yield source


def _words_with_weights(queued: Queued, node: str, text: str, saved: Saved) -> Iterator[str]:
    """The placeholders of a text whose concepts its CLIP knows and which change the MODEL."""
    written = _placeholders_in(text)
    for apply in queued.chain(node, "clip") if written else ():
        if queued.kind(apply) == APPLY and queued.inputs(apply).get("strength") != 0:
            word, method = _applied(queued, apply, saved)
            if word in written and method is not None and method.changes_model:
                yield word


def _applied(queued: Queued, apply: str, saved: Saved) -> tuple[str, Method | None]:
    """Placeholder and method of what an Apply Concept applies, "" and None when unknown."""
    node = queued.source(apply, "concept") or ""
    word = _placeholder_of(queued, node)
    makes = getattr(NODE_CLASS_MAPPINGS.get(queued.kind(node)), "makes", None)
    if makes is not None:
        return word, makes()
    name = queued.inputs(node).get("concept_name")
    card = saved().get(name) if isinstance(name, str) else None
    return (word or card.placeholder, METHODS[card.method]) if card else (word, None)


def _passes_by(queued: Queued, node: str) -> bool:
    """Does its CLIP come from a loader, and on the whole way from no Apply Concept?"""
    way = list(queued.chain(node, "clip"))
    return queued.is_loader(way[-1]) and all(queued.kind(one) != APPLY for one in way)


def _placeholders_made(queued: Queued) -> Iterator[str]:
    """Of the nodes that make, load or rename a concept."""
    return (word for node in queued if (word := _placeholder_of(queued, node)))


def _placeholder_of(queued: Queued, node: str) -> str:
    written = queued.inputs(node).get("placeholder")
    return written.strip() if queued.is_ours(node) and isinstance(written, str) else ""


def _placeholders_in(text: str) -> dict[str, None]:
    """Each once, in their order."""
    return dict.fromkeys(mention.placeholder for mention in find_placeholders(text))
