"""The rows of a conditioning in which a prompt names a concept, from the prompt to the sampler.

What acts where a concept is named asks here, and nowhere else, where that is. Two things tell it:

- A key of ours in the conditioning, which the host's own nodes keep.
- The rows themselves. Many nodes build a conditioning anew, as `[[cond, {"pooled_output": ...}]]`,
  or put rows of two prompts behind one another, and then the key is gone or tells one half only.
  So the vectors that stood where a concept was named are remembered, and looked for.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor

from ..host.conditionings import BatchPart, Conds, parts_with, texts_of
from ..host.progress import current_node, show_on_node
from ..host.prompt_tokens import Encoded, Tokens, rows_where, with_extra
from .prompt_words import AppliedConcept, mark_of

MENTIONS = "personalize_mentions"
"""Key in a conditioning: the rows in which each concept is named, by placeholder."""

REMEMBERED = 64
"""Prompts whose rows are remembered, by placeholder, and conditionings that were looked through."""

SAME = 0.9995
"""Least cosine of a row and itself after rounding to bf16 or scaling with a weight. Rows of another
word in the same place are far from it."""


def mentioned_rows(tokens: Tokens, applied: AppliedConcept) -> tuple[int, ...]:
    """Rows of the conditioning, all chunks behind one another, where the bare placeholder stands;
    of a concept whose weights act in its own prompts, its attribute words, too.

    With fractional strengths of concepts in one prompt: where it stands in the learned one.
    """

    def names_it(token: object) -> bool:
        mark = mark_of(token)
        return (
            mark is not None
            and mark.applied is applied
            and (applied.own_prompts or not mark.attribute)
        )

    return rows_where(tokens, names_it)


def with_mentions(encoded: Encoded, mentions: dict[str, tuple[int, ...]]) -> Encoded:
    """The encoding with the rows of mentions among what the host puts into the conditioning; the
    rows are remembered, too."""
    for placeholder, rows in mentions.items():
        _rows_of(placeholder).remember(encoded[0][0, list(rows)])
    return with_extra(encoded, MENTIONS, mentions) if mentions else encoded


class NamedRows:
    """Vectors that stood in conditionings where a placeholder was named, of the latest prompts."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    def remember(self, vectors: Tensor) -> None:
        """vectors: (n, d), of one prompt"""
        vectors = torch.nn.functional.normalize(vectors.detach().float().cpu(), dim=-1)
        key = vectors.numpy().tobytes()
        self._known[key] = vectors
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def find(self, text: Tensor) -> tuple[int, ...]:
        """Rows of a conditioning (B, T, d) in which one of the vectors stands, scaled or not."""
        known = [vectors for vectors in self._known.values() if vectors.shape[1] == text.shape[-1]]
        if not known:
            return ()
        rows = torch.nn.functional.normalize(text[0].detach().float().cpu(), dim=-1)
        nearest = (rows @ torch.cat(known).T).amax(dim=1)
        return tuple(torch.nonzero(nearest > SAME).flatten().tolist())


# of the whole process and by placeholder, since MODEL and CLIP of one concept may come from two
# nodes Apply Concept, and only what the text encoder gave tells that they belong together
_NAMED: dict[str, NamedRows] = {}


def _rows_of(placeholder: str) -> NamedRows:
    return _NAMED.setdefault(placeholder, NamedRows())


class Mentions:
    """Where the conditionings that a MODEL draws name one concept.

    When none does it is told in the log and on the node that runs now, which applies the concept.
    """

    def __init__(self, placeholder: str) -> None:
        self.placeholder = placeholder
        self._seen: OrderedDict[tuple[BatchPart, int], tuple[int, ...]] = OrderedDict()
        self._node = current_node()
        self._told = self._is_shown = False

    def rows_in(self, conds: Conds) -> dict[BatchPart, tuple[int, ...]]:
        """The rows by the part of a batch that reads them; parts without any are left out.

        Once it tells when no conditioning names the concept.
        """
        written = {
            part: rows.get(self.placeholder, ()) for part, rows in parts_with(conds, MENTIONS)
        }
        found = {
            part: rows
            for part, text in texts_of(conds)
            if (rows := self._rows(part, text, written.get(part, ())))
        }
        if not found and not self._told:
            self._told = self._is_shown = True
            text = (
                f"{self.placeholder} is applied to the MODEL that draws, but no prompt names it, "
                "so what it changes there does not act. Encode the prompt with the CLIP of the "
                "same Apply Concept. A node in between that weighs or mixes encodings in a way of "
                "its own may hide it, too."
            )
            logging.warning(text)
            show_on_node(self._node, text)
        elif found and self._is_shown:
            self._is_shown = False
            show_on_node(self._node, "")
        return found

    def _rows(self, part: BatchPart, text: Tensor, written: Iterable[int]) -> tuple[int, ...]:
        # the text is read once a sampling, since it may lie on a GPU, which would have to wait
        key = part, id(text)
        if key not in self._seen:
            rows = {row for row in written if row < text.shape[1]}
            self._seen[key] = tuple(sorted(rows | set(_rows_of(self.placeholder).find(text))))
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return self._seen[key]
