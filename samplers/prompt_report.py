"""What became of a prompt's placeholders, told in the log and to the page that queued it.

A concept that is written and not applied would end in a picture of someone else, and nobody would
know why.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..concepts.placeholders import find_placeholders, nearest_word
from ..host.browsers import tell_browsers
from ..host.progress import current_node, current_prompt

PROMPT_EVENT = "personalize.prompt"
_REMEMBERED = 512


@dataclass(frozen=True)
class PromptReport:
    """The words in angle brackets of a prompt, each once, in their order.

    recognised: those that the applied concepts know
    unknown: all others, which are read as ordinary text, with the known word that each is nearest
        to, "" for none
    applied: all words that are known here
    """

    recognised: tuple[str, ...]
    unknown: tuple[tuple[str, str], ...]
    applied: tuple[str, ...]

    def sentence(self) -> str:
        """For the log."""
        parts = [f"{', '.join(self.recognised)} recognised"] if self.recognised else []
        for word, nearest in self.unknown:
            meant = f", did you mean {nearest}?" if nearest else ""
            parts.append(f"{word} is no concept that is applied here and stays plain text{meant}")
        if self.unknown:
            parts.append(f"applied here: {', '.join(self.applied)}")
        return "; ".join(parts)


def report_on(prompt: str, applied: Iterable[str]) -> PromptReport:
    """applied: the words of all concepts that are applied where the prompt is encoded."""
    applied = tuple(applied)
    exact = {mention.word: mention.exact for mention in find_placeholders(prompt)}
    unknown = [(word, nearest_word(word, applied)) for word in exact if word not in applied]
    return PromptReport(
        recognised=tuple(word for word in exact if word in applied),
        # "a < b > c" is no placeholder, unless it comes near to one
        unknown=tuple((word, nearest) for word, nearest in unknown if nearest or exact[word]),
        applied=applied,
    )


def tell_prompt(prompt: str, applied: Iterable[str]) -> None:
    """Tell of a prompt that has a placeholder, once in each run of a node."""
    if find_placeholders(prompt):
        _tell(current_prompt(), current_node(), prompt, tuple(applied))


@lru_cache(maxsize=_REMEMBERED)
def _tell(run: str, node: str, prompt: str, applied: tuple[str, ...]) -> None:
    report = report_on(prompt, applied)
    if not report.recognised and not report.unknown:
        return
    level = logging.WARNING if report.unknown else logging.INFO
    where = f" of node {node}" if node else ""
    logging.log(level, "Personalize, prompt%s: %s.", where, report.sentence())
    told = {
        "node": node,
        "text": prompt,
        "recognised": report.recognised,
        "unknown": [word for word, _ in report.unknown],
    }
    tell_browsers(PROMPT_EVENT, told, only_asking=True)
