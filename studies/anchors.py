"""What a likeness means: that of pictures which are, or which only resemble, the individual.

A cosine of the instance judge says little alone: another thing of the same colours comes near, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..miniature.subjects import Jury, Subject, individual
from ..miniature.world.factors import FACTORS
from ..miniature.world.objects import OBJECTS
from ..miniature.world.render import render
from ..miniature.world.scene import Scene, pick, random_individual, views

if TYPE_CHECKING:
    from torch import Tensor

OWN = "own reference pictures"
PICTURES = 4  # of each that resembles it


def anchors(jury: Jury, subjects: Sequence[Subject]) -> dict[str, float]:
    """Mean likeness by what was shown, over subjects of one kind."""
    found: dict[str, list[float]] = {}
    for subject in subjects:
        found.setdefault(OWN, []).append(_likeness(jury, subject.references.pictures, subject))
        for title, scene in others(subject):
            rng = np.random.default_rng([63, *subject.name.encode()])
            shown = torch.from_numpy(
                np.stack([render(view)[0] for view in views(rng, scene, PICTURES)])
            )
            found.setdefault(title, []).append(_likeness(jury, shown.float() / 255, subject))
    return {title: mean(values) for title, values in found.items()}


def others(subject: Subject) -> Iterator[tuple[str, Scene]]:
    """Individuals that resemble it, by what they share."""
    own, rng = individual(subject), np.random.default_rng([64, *subject.name.encode()])
    if subject.is_person:
        yield "another person", random_individual(rng, "person")
        return
    colours = [colour for colour in FACTORS["colour"] if colour != own.colour]
    kinds = [kind for kind in OBJECTS if kind != own.kind]
    alike = random_individual(rng, like=own)
    yield "another of the same class, colour and pattern", alike
    other = random_individual(rng, pick(rng, kinds))
    yield (
        "another class of the same colour and pattern",
        replace(other, colour=own.colour, pattern=own.pattern),
    )
    yield "the same class in another colour", replace(alike, colour=pick(rng, colours))


def _likeness(jury: Jury, pictures: Tensor, subject: Subject) -> float:
    return float(jury.likeness(pictures, subject.witnesses).mean())


def sentence(found: dict[str, float]) -> str:
    told = "; ".join(f"{title} {value:.2f}" for title, value in found.items())
    return f"Likeness of what was not learned: {told}."
