"""ELITE's local attention (Wei et al. 2023, eq. 6): cross attention to a picture's patches.

Out = Attention(Q, K_g, V_g) + lambda R Attention(Q, K_l, V_l) before the output projection, in the
conditionings whose prompt holds the concept's word. R is how much a query looks at that word.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..concepts.concept import Concept
from ..concepts.elite import ProjectionPairs, weighted, word_ratio
from ..concepts.errors import PersonalizeError
from ..host.attention import (
    Place,
    Replace,
    WrapPatch,
    attention_and_logsumexp,
    cross_attention,
    patch_place,
    with_wrapped_attention,
)
from ..host.conditionings import BatchPart, Conds, acts_at, batch_parts
from .mentions import Mentions
from .named_samples import named_samples


@dataclass(frozen=True)
class Details:
    """How much of a picture's details is carried over (lambda), and in what part of sampling."""

    strength: float = 0.8
    start: float = 0.0
    end: float = 1.0

    def check(self) -> None:
        """Raise PersonalizeError for numbers that cannot be."""
        if not (self.strength >= 0 and self.strength != float("inf")):
            raise PersonalizeError(
                f"Expected a local_strength of 0 or more, such as 0.8, got {self.strength}."
            )
        if not 0 <= self.start <= self.end <= 1:
            raise PersonalizeError(
                f"Expected 0 <= start_percent <= end_percent <= 1, got {self.start} and {self.end}."
            )


class LocalPart:
    """The local features of one applied concept, and when and where they act."""

    def __init__(self, concept: Concept, features: Tensor, details: Details, weight: float) -> None:
        self.placeholder, self.features = concept.placeholder, features
        self.details, self.weight = details, weight  # lambda times the concept's strength
        self.mentions = Mentions(concept.placeholder)

    @property
    def key(self) -> str:
        """Where patches find the word's rows in the transformer options, by part of a batch."""
        return f"personalize_rows_{self.placeholder}"

    def prepare(self, model: Any, conds: Conds, timestep: Tensor) -> Any:
        """Where in which conditioning the word is, in the part of sampling in which it acts."""
        acts = acts_at(model, timestep, self.details.start, self.details.end)
        return self.mentions.rows_in(conds) if acts else None


class LocalAttention:
    """Adds to one block's cross attention, whatever that is.

    Keys and values of the local features do not depend on the noise: they are computed once for a
    device and type, the values times the part's weight.
    """

    def __init__(self, part: LocalPart, projections: tuple[Tensor, Tensor]) -> None:
        self.part = part
        self._projections = projections
        self._computed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def wrap(self, inner: Replace | None) -> Replace:
        """A patch of the block that calls the one that stood there, or the host's own attention."""
        return LocalPatch(self, inner)

    def added_to(
        self,
        out: Tensor,
        logsumexp: Tensor | None,
        q: Tensor,
        k: Tensor,
        extra_options: dict[str, Any],
    ) -> Tensor:
        """Attention's output (B, N, heads * d) with R Attention(Q, K_l, V_l) in the samples whose
        prompt names the concept. All of them at once, since a GPU waits for each call."""
        rows: Mapping[BatchPart, tuple[int, ...]] = extra_options[self.part.key]
        by_part = tuple(rows.get(part, ()) for part in batch_parts(extra_options))
        named = named_samples(by_part, q.shape[0], q.device)
        if named is None:
            return out
        q, k = named.of(q), named.of(k)
        logsumexp = None if logsumexp is None else named.of(logsumexp)
        ratio = word_ratio(q, k, named.rows, extra_options["n_heads"], logsumexp)
        return named.add(out, weighted(self._local(q, extra_options), ratio))

    def _local(self, q: Tensor, extra_options: dict[str, Any]) -> Tensor:
        keys, values = (t.expand(q.shape[0], -1, -1) for t in self._keys_values(q))
        return cross_attention(q, keys, values, extra_options)

    def _keys_values(self, like: Tensor) -> tuple[Tensor, Tensor]:
        place = like.device, like.dtype
        if place not in self._computed:
            self._computed[place] = self._compute(place)
        return self._computed[place]

    def _compute(self, place: tuple[torch.device, torch.dtype]) -> tuple[Tensor, Tensor]:
        """K_l = W_Kl (e * m), lambda V_l = lambda W_Vl (e * m), each (1, P, channels)."""
        device, dtype = place
        features = self.part.features.to(device, torch.float32)
        keys, values = (features @ w.to(features).T for w in self._projections)
        return keys[None].to(dtype), (self.part.weight * values)[None].to(dtype)


@dataclass(frozen=True)
class LocalPatch:
    """A patch of one block around another one, None for the host's own attention."""

    attention: LocalAttention
    inner: Replace | None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
        return self.attended(q, k, v, extra_options)[0]

    def attended(
        self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """The result, and the logsumexp of the prompt's attention for a patch of ours around this
        one: two concepts share it."""
        if isinstance(self.inner, LocalPatch):
            out, logsumexp = self.inner.attended(q, k, v, extra_options)
        elif self.inner is None:
            out, logsumexp = attention_and_logsumexp(q, k, v, extra_options)
        else:
            out, logsumexp = self.inner(q, k, v, extra_options), None
        return self.attention.added_to(out, logsumexp, q, k, extra_options), logsumexp


def with_local_attention(model: Any, part: LocalPart, projections: ProjectionPairs) -> Any:
    """A clone of the MODEL with local attention beside each cross attention and others' patches."""
    ours = {
        patch_place(path): LocalAttention(part, pair).wrap for path, pair in projections.items()
    }

    def patches_of(
        rows: Mapping[BatchPart, Any], options: Mapping[str, Any], _: Tensor | None
    ) -> Mapping[Place, WrapPatch]:
        return ours if any(named in rows for named in batch_parts(options)) else {}

    return with_wrapped_attention(model, part.key, part.prepare, patches_of)
