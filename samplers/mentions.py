"""The rows of a conditioning in which a prompt names a concept, from the prompt to the sampler.

What acts where a concept is named asks here, and nowhere else, where that is. Two things tell it:

- A key of ours in the conditioning, which the host's own nodes keep.
- The rows themselves. Many nodes build a conditioning anew, as `[[cond, {"pooled_output": ...}]]`,
  or put rows of two prompts behind one another, and then the key is gone or tells one half only.
  So the vectors that stood where a concept was named are remembered, and looked for. The stock
  *ConditioningAverage* mixes two prompts, and keeps the key of the first: such a mixture lies on
  the line between two encodings, which are remembered whole.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping

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


REMEMBERED_WHOLE = 16
"""Encodings that are remembered whole, since a mixture of two may come: 0.6 MB each for SDXL."""

ON_THE_LINE = 1e-3
"""How far beside the line a mixture may be after rounding to bf16: squared, of the squared distance
of the two, times the smaller share. With so many dimensions no other prompt is so near."""

LEAST_SHARE = 0.005
"""Of a prompt in a mixture; the host's node has steps of 0.01."""


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
    _ENCODINGS.remember(encoded[0][0], mentions)
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


class Encodings:
    """The latest prompts of CLIPs with a concept, and where they name which."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[Tensor, Mapping[str, tuple[int, ...]]]] = (
            OrderedDict()
        )

    def remember(self, rows: Tensor, mentions: Mapping[str, tuple[int, ...]]) -> None:
        """rows: (T, d), of one prompt"""
        rows, key = rows.detach().float().cpu().clone(), _key_of(rows)
        known = self._known.pop(key, (rows, {}))[1]
        self._known[key] = rows, {**known, **mentions}
        while len(self._known) > REMEMBERED_WHOLE:
            self._known.popitem(last=False)

    def find(self, text: Tensor, placeholder: str) -> tuple[int, ...]:
        """Rows of a mixture w x + (1 - w) y of two prompts (B, T, d) in which either names it.

        Of longer and shorter prompts than the mixture the host takes as many rows, and zeros.
        """
        count, width = text.shape[1:]
        known = [one for one in self._known.values() if one[0].shape[1] == width]
        if not any(placeholder in mentions for _, mentions in known):
            return ()
        if _key_of(text[0]) in self._known:
            return ()  # spares most samplings the comparison
        ends = torch.stack([_of_length(rows, count).flatten() for rows, _ in known]).double()
        mixed = text[0].detach().cpu().double().flatten()
        found = {row for n in _mixed_of(ends, mixed) for row in known[n][1].get(placeholder, ())}
        return tuple(sorted(row for row in found if row < count))


def _key_of(rows: Tensor) -> bytes:
    return rows.detach().float().cpu().numpy().tobytes()


def _of_length(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows[:count], rows.new_zeros(max(count - len(rows), 0), rows.shape[1])])


def _mixed_of(ends: Tensor, mixed: Tensor) -> tuple[int, ...]:
    """Which two of the ends (K, N) a vector (N,) lies between, if it does."""
    nearest, pair = 1.0, ()
    for n, start in enumerate(ends[:-1]):
        lines = ends[n + 1 :] - start
        length = lines.square().sum(dim=1).clamp_min(1e-12)
        share = lines @ (mixed - start) / length  # by least squares
        beside = (mixed - start - share[:, None] * lines).square().sum(dim=1) / length
        # near to one end a mixture with it is told from those with others by less
        beside /= ON_THE_LINE * torch.minimum(share, 1 - share)
        beside[(share < LEAST_SHARE) | (share > 1 - LEAST_SHARE)] = torch.inf
        least, at = beside.min(dim=0)
        if least < nearest:
            nearest, pair = float(least), (n, n + 1 + int(at))
    return pair


_ENCODINGS = Encodings()

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
            rows |= set(_rows_of(self.placeholder).find(text))
            rows |= set(_ENCODINGS.find(text, self.placeholder))
            self._seen[key] = tuple(sorted(rows))
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return self._seen[key]
