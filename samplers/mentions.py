"""The rows of a conditioning in which a prompt names a concept, from the prompt to the sampler.

They travel with the conditioning, under a key of ours that nodes between keep. What acts where a
concept is named asks here, and nowhere else, where that is.
"""

from typing import Any

from ..host.conditionings import BatchPart, Conds, parts_with
from ..host.prompt_tokens import Encoded, Tokens, rows_where, with_extra
from .prompt_words import AppliedConcept, mark_of

MENTIONS = "personalize_mentions"
"""Key in a conditioning: the rows in which each concept is named, by placeholder."""


def mentioned_rows(tokens: Tokens, applied: AppliedConcept) -> tuple[int, ...]:
    """Rows of the conditioning, all chunks behind one another, where the bare placeholder stands;
    of a concept whose weights act in its own prompts, its attribute words, too.

    With fractional strengths of concepts in one prompt: where it stands in the learned one.
    """

    def names_it(token: Any) -> bool:
        mark = mark_of(token)
        return (
            mark is not None
            and mark.applied is applied
            and (applied.own_prompts or not mark.attribute)
        )

    return rows_where(tokens, names_it)


def with_mentions(encoded: Encoded, mentions: dict[str, tuple[int, ...]]) -> Encoded:
    """The encoding with the rows of mentions among what the host puts into the conditioning."""
    return with_extra(encoded, MENTIONS, mentions) if mentions else encoded


def mentions_in(conds: Conds, placeholder: str) -> dict[BatchPart, tuple[int, ...]]:
    """The rows of a placeholder by the part of a batch that reads them."""
    found = parts_with(conds, MENTIONS)
    return {part: tuple(rows[placeholder]) for part, rows in found.items() if rows.get(placeholder)}
