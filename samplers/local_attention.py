"""ELITE's local attention (Wei et al. 2023, eq. 6): cross attention to a picture's patches.

Out = Attention(Q, K_g, V_g) + lambda R Attention(Q, K_l, V_l) before the output projection, in the
conditionings whose prompt holds the concept's word. R is how much a query looks at that word.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
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
    cross_attention,
    patch_place,
    with_wrapped_attention,
)
from ..host.conditionings import BatchPart, Conds, acts_at, batch_parts
from .mentions import Mentions


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
    device and type.
    """

    def __init__(self, part: LocalPart, projections: tuple[Tensor, Tensor]) -> None:
        self.part = part
        self._projections = projections
        self._computed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def wrap(self, inner: Replace | None) -> Replace:
        """A patch of the block that calls the one that stood there, or the host's own attention."""
        return partial(self, inner or cross_attention)

    def __call__(
        self, inner: Replace, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]
    ) -> Tensor:
        out = inner(q, k, v, extra_options)
        rows: Mapping[BatchPart, tuple[int, ...]] = extra_options[self.part.key]
        batch, heads = batch_parts(extra_options), extra_options["n_heads"]
        size = q.shape[0] // len(batch)
        parts = list(out.split(size))
        for n, named in enumerate(batch):
            if named in rows:
                one = slice(n * size, (n + 1) * size)
                ratio = word_ratio(q[one], k[one], rows[named], heads) * self.part.weight
                parts[n] = parts[n] + weighted(self._local(q[one], extra_options), ratio)
        return torch.cat(parts)

    def _local(self, q: Tensor, extra_options: dict[str, Any]) -> Tensor:
        keys, values = (t.expand(q.shape[0], -1, -1) for t in self._keys_values(q))
        return cross_attention(q, keys, values, extra_options)

    def _keys_values(self, like: Tensor) -> tuple[Tensor, Tensor]:
        place = like.device, like.dtype
        if place not in self._computed:
            self._computed[place] = self._compute(place)
        return self._computed[place]

    def _compute(self, place: tuple[torch.device, torch.dtype]) -> tuple[Tensor, Tensor]:
        """K_l = W_Kl (e * m), V_l = W_Vl (e * m), each (1, P, channels)."""
        device, dtype = place
        features = self.part.features.to(device, torch.float32)
        keys, values = ((features @ w.to(features).T)[None].to(dtype) for w in self._projections)
        return keys, values


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
