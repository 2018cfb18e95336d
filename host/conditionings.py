"""What the host has of conditionings while it samples, and how a batch tells whose rows it holds.

Seen so in 0.18 to 0.30: samplers get lists of conditionings (positive, negative ...), each a
dictionary. A pass of the UNet reads several at once, and its transformer options tell in
`cond_or_uncond` from which list each part of the batch is, and in `uuids` which one it is there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

Conds = Sequence[Sequence[dict[str, Any]] | None]
"""Lists of conditionings, such as positive and negative."""

BatchPart = tuple[int, Any]
"""A part of a batch: the list that its conditioning is from, and the uuid in it."""


def parts_with(conds: Conds, key: str) -> Iterator[tuple[BatchPart, Any]]:
    """What conditionings have under a key of ours, with the part of a batch that reads them.

    To an area of one list the host adds one to the others, with all keys of the first, the uuid
    too, but another text. So the text decides, not the keys.
    """
    everything = [cond for group in conds for cond in group or ()]
    owners = {id(cond.get("cross_attn")): cond for cond in everything}
    for which, group in enumerate(conds):
        for cond in group or ():
            owner = owners.get(id(_text_of(cond)), cond)
            if key in owner:
                yield (which, cond["uuid"]), owner[key]


def texts_of(conds: Conds) -> Iterator[tuple[BatchPart, Tensor]]:
    """The rows (B, T, d) that each part of a batch reads."""
    for which, group in enumerate(conds):
        for cond in group or ():
            text = _text_of(cond)
            if text is not None:
                yield (which, cond["uuid"]), text


def _text_of(cond: dict[str, Any]) -> Tensor | None:
    text = cond.get("model_conds", {}).get("c_crossattn")
    return getattr(text, "cond", None)


def batch_parts(options: Mapping[str, Any]) -> list[BatchPart]:
    """The parts of a batch in its order, from the transformer options of a pass of the UNet.

    All are of one size, since each holds every latent once.
    """
    return list(zip(options.get("cond_or_uncond", ()), options.get("uuids", ()), strict=True))


def acts_at(model: Any, timestep: Tensor, start: float, end: float) -> bool:
    """Whether a noise level lies in a part of sampling, from 0 (all noise) to 1.

    model: what a MODEL wraps
    """
    if start <= 0 and end >= 1:
        return True  # spares reading the noise level from the device
    sigma = float(timestep.max())
    first, last = (model.model_sampling.percent_to_sigma(part) for part in (start, end))
    return float(last) <= sigma <= float(first)
