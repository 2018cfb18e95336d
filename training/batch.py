"""One step's random draw, and the denoising loss that every method shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import mse_loss

from ..host.attention import Place, Replace
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from .pictures import EncodedPictures

AnyBatch = TypeVar("AnyBatch", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Clean latents, noise and timesteps of one step, on the model's device. A method that draws
    more extends it.

    x0, noise: (B, C, h, w) at the UNet's scale; t: (B,); index: picture of each row, (B,);
    prompt: training prompt of each row, (B,); mirrored: which rows are mirror images, (B,)
    """

    x0: Tensor
    noise: Tensor
    t: Tensor
    index: Tensor
    prompt: Tensor
    mirrored: Tensor | None = None

    def __len__(self) -> int:
        return len(self.t)

    def to(self: AnyBatch, device: torch.device) -> AnyBatch:
        """The same with all its tensors on a device, where a step waits for none of them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: v.to(device) for name, v in values.items() if v is not None}
        return replace(self, **moved)

    def part(self: AnyBatch, rows: slice) -> AnyBatch:
        """Some of its rows, and what belongs to them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: self.cut(name, v, rows) for name, v in values.items()})

    def cut(self, name: str, value: Any, rows: slice) -> Any:
        """A field's value for some rows. Whoever has rows in another dimension overrides it."""
        if isinstance(value, Batch):
            return value.part(rows)
        return None if value is None else value[rows]


def joined(batches: Sequence[AnyBatch]) -> AnyBatch:
    """Rows of several batches of one kind as one batch; what one of them lacks, all lack."""
    first = batches[0]
    if len(batches) == 1:
        return first
    values = {f.name: [getattr(batch, f.name) for batch in batches] for f in fields(first)}
    return replace(first, **{name: _cat(parts) for name, parts in values.items()})


def _cat(parts: Sequence[Any]) -> Any:
    if parts[0] is None:
        return None
    return joined(parts) if isinstance(parts[0], Batch) else torch.cat(list(parts))


def parts_of(batch: Any, size: int) -> list[tuple[Any, float]]:
    """A batch in parts of at most so many rows, with each part's share of the rows.

    Losses of parts are means over rows, so that their sum by these shares is the batch's own. The
    parts are as equal as can be: memory is needed for the largest of them.
    size: 0 for the whole batch; what is no `Batch`, such as one whose rows are compared with each
        other, stays whole
    """
    if not size or not isinstance(batch, Batch) or len(batch) <= size:
        return [(batch, 1.0)]
    count = -(-len(batch) // size)
    ends = [len(batch) * n // count for n in range(count + 1)]
    slices = [slice(*pair) for pair in pairwise(ends)]
    return [(batch.part(rows), (rows.stop - rows.start) / len(batch)) for rows in slices]


def draw_batch(
    pictures: EncodedPictures,
    backbone: Backbone,
    generator: Generator,
    *,
    size: int,
    prompts: int = 1,
) -> Batch:
    """Pictures, prompts, flips, posterior samples, noise and timesteps for one step.

    All of it comes from one generator on the CPU, so that it is the same on every device. It is
    drawn in this order, whether it is needed or not: what is drawn decides what comes after it, so
    a training that is resumed by a later version must draw the same numbers.
    """
    index = torch.randint(len(pictures), (size,), generator=generator)
    prompt = torch.randint(prompts, (size,), generator=generator)
    mirrored = torch.rand(size, generator=generator) < 0.5
    latents = pictures.sample(index, mirrored, generator)
    noise = torch.randn(latents.shape, generator=generator)
    t = torch.randint(backbone.denoiser.timesteps, (size,), generator=generator)
    return Batch(
        x0=backbone.denoiser.scale_latents(latents.to(backbone.device)),
        noise=noise.to(backbone.device),
        t=t,
        index=index,
        prompt=prompt,
        mirrored=torch.zeros_like(mirrored) if pictures.mirrored is None else mirrored,
    )


def denoising_loss(backbone: Backbone, batch: Batch, context: Conditioning) -> Tensor:
    """L_LDM = mean ||target - prediction||^2 over the batch (Rombach et al. 2022, eq. 3)."""
    return squared_errors(backbone, batch, context).mean()


def squared_errors(
    backbone: Backbone,
    batch: Batch,
    context: Conditioning,
    attention: Mapping[Place, Replace] | None = None,
) -> Tensor:
    """(target - prediction)^2, (B, C, h, w).

    attention: what takes the place of blocks' cross attention
    """
    prediction = backbone.denoiser.predict(batch.x0, batch.noise, batch.t, context, attention)
    target = backbone.denoiser.target(batch.x0, batch.noise, batch.t)
    return mse_loss(prediction, target, reduction="none")
