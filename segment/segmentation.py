"""The subject of a picture as a mask: SAM's candidates, the choice among them, and its finish."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice

import torch
from torch import Tensor

from ..concepts.errors import PersonalizeError
from ..host.sam import SamModel, predict_masks
from ..pictures.images import check_finite, plain_pixels, single_pictures
from ..pictures.mask_edits import fill_holes, grow, largest_part
from ..pictures.masks import MaskMarks, Warn, read_masks
from .prompt import PlacedPrompt, SegmentPrompt

_SMALLEST, _LONGEST = 16, 32  # pixels of a side, and how many times the other one


class Choice(str, Enum):
    """Which of SAM's candidates becomes the mask: the one it rates highest, or one by number."""

    BEST = "best"
    FIRST = "1"
    SECOND = "2"
    THIRD = "3"


@dataclass(frozen=True)
class Finish:
    """Which candidate is taken and what is done to it.

    fill_holes: the largest hole that is filled, as a part of the subject's area; 0: none
    largest_part: drop all parts but the largest one
    grow, soften: see `mask_edits.grow`, in pixels of the picture
    """

    candidate: Choice = Choice.BEST
    fill_holes: float = 0.01
    largest_part: bool = True
    grow: int = 0
    soften: int = 0


@dataclass(frozen=True, eq=False)
class Segmented:
    """A picture's mask with what led to it.

    picture: (H, W, 3) in 0..1; mask: (H, W), fp32; candidates: (3, H, W), fp32, as SAM gave them
    quality: (3,), the overlap with the truth that SAM expects of each candidate
    chosen: index of the candidate behind the mask; None: SAM's answer to a plain prompt

    Of a mask that was given, not made, the one candidate is that mask, and there is no quality.
    """

    picture: Tensor
    prompt: PlacedPrompt
    mask: Tensor
    candidates: Tensor
    quality: Tensor
    chosen: int | None

    @property
    def area(self) -> float:
        """Part of the picture that the mask covers."""
        return self.mask.mean().item()


def segment_pictures(
    model: SamModel,
    images: Sequence[Tensor],
    prompts: Sequence[SegmentPrompt],
    *,
    finish: Finish,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[Segmented]]:
    """The subject of each picture, in lists as long as the batches of pictures.

    images: batches (B, H, W, C) or single pictures (H, W, C), of any sizes
    prompts: one for each of the images; the last one stands for all that follow
    report: called with how many pictures of how many are done, before each and at the end
    Raises PersonalizeError for an empty list, and for a prompt that does not fit a picture.
    """
    batches = [list(single_pictures([image])) for image in images]
    total = sum(map(len, batches))
    if not total:
        raise PersonalizeError("There is no picture to segment. Connect one or more pictures.")
    asked = [
        (picture, prompts[min(n, len(prompts) - 1)])
        for n, batch in enumerate(batches)
        for picture in batch
    ]
    placed = [_place(prompt, picture, n + 1) for n, (picture, prompt) in enumerate(asked)]
    results = []
    for n, (picture, prompt) in enumerate(asked):
        report(n, total)
        pixels = plain_pixels(picture)
        results.append(
            segment_picture(model, pixels, placed[n], ambiguous=prompt.ambiguous, finish=finish)
        )
    report(total, total)
    rest = iter(results)
    return [list(islice(rest, len(batch))) for batch in batches]


def tidy_masks(
    images: Sequence[Tensor],
    masks: Iterable[Tensor],
    *,
    finish: Finish,
    marks: MaskMarks = MaskMarks.AUTO,
    warn: Warn = logging.warning,
) -> list[list[Segmented]]:
    """Masks that are there already after the finish, in lists as long as the batches of pictures.

    images: as for `segment_pictures`; masks, marks, warn: as for `read_masks`
    """
    batches = [list(single_pictures([image])) for image in images]
    pictures = [picture for batch in batches for picture in batch]
    if not pictures:
        raise PersonalizeError("There is no picture to the masks. Connect one or more pictures.")
    for n, picture in enumerate(pictures):
        check_finite(picture, f"Picture {n + 1}")
    read = read_masks(masks, pictures, marks, warn)
    tidied = iter(
        Segmented(
            picture=plain_pixels(picture), prompt=PlacedPrompt(), mask=finished(mask, finish),
            candidates=mask[None], quality=torch.zeros(0), chosen=0,
        )
        for picture, mask in zip(pictures, read, strict=True)
    )  # fmt: skip
    return [list(islice(tidied, len(batch))) for batch in batches]


def segment_picture(
    model: SamModel, picture: Tensor, prompt: PlacedPrompt, *, ambiguous: bool, finish: Finish
) -> Segmented:
    """The subject of one picture (H, W, 3).

    As SAM was trained, the best answer to one point is among the candidates, and to a box or
    several points it is a fourth mask, which SAM gives when asked for one.
    """
    where = prompt.points, prompt.labels, prompt.box
    candidates, quality = predict_masks(model, picture, *where)
    if finish.candidate is not Choice.BEST:
        chosen: int | None = int(finish.candidate.value) - 1
    else:
        chosen = pick_subject(candidates, quality) if ambiguous else None
    if chosen is None:
        mask = predict_masks(model, picture, *where, several=False)[0][0]
    else:
        mask = candidates[chosen]
    return Segmented(
        picture=picture,
        prompt=prompt,
        mask=finished(mask.float(), finish),
        candidates=candidates.float(),
        quality=quality,
        chosen=chosen,
    )


def finished(mask: Tensor, finish: Finish) -> Tensor:
    """A mask (H, W) after the finish."""
    if finish.largest_part:
        mask = largest_part(mask)
    if finish.fill_holes > 0:
        mask = fill_holes(mask, finish.fill_holes)
    if finish.grow or finish.soften:
        mask = grow(mask, finish.grow, finish.soften)
    return mask


def pick_subject(candidates: Tensor, quality: Tensor) -> int:
    """The candidate that is most likely one whole subject in the middle of the picture.

    SAM answers a point with a part of a thing, a larger part and the whole, and is often surest of
    a part. So its own expectation is weighed by how like a subject a mask is.

    candidates: (N, H, W); quality: (N,)
    """
    likeness = torch.tensor([subject_likeness(mask) for mask in candidates])
    return int((quality.clamp(min=1e-3) * likeness).argmax())


def subject_likeness(mask: Tensor) -> float:
    """0..1: larger is better, and the picture's border belongs to the background.

    A subject may touch a part of the border, as portraits do. The exponent weighs size against
    border so that, at like quality, a portrait beats its shirt and a thing beats itself with the
    ground that it stands on: held against rendered masks.
    """
    inside = mask > 0.5
    edges = torch.cat([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    border = edges.float().mean().item()
    return inside.float().mean().item() ** 0.3 * (1 - border)


def _place(prompt: SegmentPrompt, picture: Tensor, number: int) -> PlacedPrompt:
    height, width = picture.shape[:2]
    short, long = sorted((height, width))
    if short < _SMALLEST or long > _LONGEST * short:
        raise PersonalizeError(
            f"Picture {number} has {width}x{height} pixels. Expected at least {_SMALLEST} pixels a "
            f"side, and no side longer than {_LONGEST} times the other one. Crop or enlarge it."
        )
    check_finite(picture, f"Picture {number}")
    return prompt.at(width, height, number)
