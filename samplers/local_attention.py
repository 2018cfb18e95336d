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
from ..concepts.errors import ConceptFileError, PersonalizeError
from ..host.attention import (
    Around,
    Conds,
    Place,
    Replace,
    cross_attention,
    patch_place,
    with_joined_patches,
)

MENTIONS = "personalize_mentions"
"""Key in a conditioning: the rows in which each concept's word stands, by placeholder."""

Chunk = tuple[int, Any]
"""A part of a batch: which list of conditionings (positive, negative), and the uuid in it."""


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

    @property
    def key(self) -> str:
        """Where the wrapper tells the patches, in the transformer options: rows by chunk."""
        return f"personalize_rows_{self.placeholder}"

    def tell(self, model: Any, conds: Conds, timestep: Tensor) -> Any:
        """Where in which conditioning the word is, in the part of sampling in which it acts."""
        acts = self._acts(model.model_sampling, timestep)
        return mentioned(conds, self.placeholder) if acts else None

    def _acts(self, sampling: Any, timestep: Tensor) -> bool:
        if self.details.start <= 0 and self.details.end >= 1:
            return True  # spares reading the noise level from the device
        sigma = float(timestep.max())
        first, last = (sampling.percent_to_sigma(p) for p in (self.details.start, self.details.end))
        return float(last) <= sigma <= float(first)


def mentioned(conds: Conds, placeholder: str) -> dict[Chunk, tuple[int, ...]]:
    """The rows of a placeholder's word by the chunk that reads them.

    To an area of one list the host adds one to the others, with all keys of the first, the uuid
    too, but another text. So the text decides, not the keys.
    """
    everything = [cond for group in conds for cond in group or ()]
    owners = {id(cond.get("cross_attn")): cond for cond in everything}
    found = {}
    for which, group in enumerate(conds):
        for cond in group or ():
            text = cond.get("model_conds", {}).get("c_crossattn")
            owner = owners.get(id(getattr(text, "cond", None)), cond)
            if rows := owner.get(MENTIONS, {}).get(placeholder):
                found[which, cond["uuid"]] = tuple(rows)
    return found


def chunks_of(options: Mapping[str, Any]) -> list[Chunk]:
    """The chunks of a batch in its order."""
    return list(zip(options.get("cond_or_uncond", ()), options.get("uuids", ()), strict=True))


class LocalAttention:
    """Adds to one block's cross attention, whatever that is.

    Keys and values of the local features do not depend on the noise: they are computed once for a
    device and type.
    """

    def __init__(self, part: LocalPart, projections: tuple[Tensor, Tensor]) -> None:
        self.part = part
        self._projections = projections
        self._computed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def around(self, inner: Replace | None) -> Replace:
        """A patch of the block that calls the one that stood there, or the host's own attention."""
        return partial(self, inner or cross_attention)

    def __call__(
        self, inner: Replace, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]
    ) -> Tensor:
        out = inner(q, k, v, extra_options)
        rows: Mapping[Chunk, tuple[int, ...]] = extra_options[self.part.key]
        chunks, heads = chunks_of(extra_options), extra_options["n_heads"]
        size = q.shape[0] // len(chunks)
        parts = list(out.split(size))
        for n, chunk in enumerate(chunks):
            if chunk in rows:
                one = slice(n * size, (n + 1) * size)
                ratio = word_ratio(q[one], k[one], rows[chunk], heads) * self.part.weight
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
        patch_place(path): LocalAttention(part, pair).around for path, pair in projections.items()
    }

    def patches(
        rows: Mapping[Chunk, Any], options: Mapping[str, Any], _: Tensor | None
    ) -> Mapping[Place, Around]:
        return ours if any(chunk in rows for chunk in chunks_of(options)) else {}

    return with_joined_patches(model, part.key, part.tell, patches)


def local_features(concept: Concept) -> Tensor | None:
    """The (P, text_width) local features of a concept, None for words alone."""
    local = concept.tensors.get("local")
    if local is None:
        return None
    if local.ndim != 2 or local.shape[1] != concept.text_width or not local.is_floating_point():
        raise ConceptFileError(
            f"The {concept.title} has local features of shape "
            f"{tuple(local.shape)}; expected vectors of width {concept.text_width}. Encode its "
            "picture again."
        )
    if not torch.isfinite(local).all():
        raise ConceptFileError(
            f"The {concept.title} holds NaN or infinite numbers. Its encoder's "
            "training went wrong or its file is damaged: encode its picture again."
        )
    return local
