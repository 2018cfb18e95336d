"""Every trainer of the pack as one call on tiny models, for what must hold for each method."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from personalize.concepts.concept import Concept
from personalize.host.base_models import towers_of
from personalize.tests.elite_models import clip_vision, random_encoder
from personalize.training import zoom
from personalize.training.catversion import CatVersionConfig
from personalize.training.config import TrainConfig
from personalize.training.cross_init import CrossInitConfig
from personalize.training.custom_diffusion import CustomDiffusionConfig
from personalize.training.detex import DetexConfig
from personalize.training.elite.config import EliteConfig, TrainingStage
from personalize.training.elite.train import EliteModels, GivenSubjects, train_elite
from personalize.training.learn import learn
from personalize.training.sources import Sources
from personalize.training.textual_inversion import TextualInversionConfig
from torch import Tensor

SETTINGS = {"steps": 3, "batch_size": 2, "resolution": 64, "learning_rate": 1e-3}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def square_masks(count: int) -> Tensor:
    masks = torch.zeros(count, 64, 64)
    masks[:, 16:48, 16:48] = 1
    return masks


@dataclass(frozen=True)
class Result:
    """What a training ended with, on the CPU."""

    tensors: dict[str, Tensor]
    losses: dict[str, list[float]]

    def equals(self, other: "Result") -> bool:
        """Bit for bit, losses too."""
        same = self.tensors.keys() == other.tensors.keys() and self.losses == other.losses
        return same and all(torch.equal(t, other.tensors[k]) for k, t in self.tensors.items())


def _of_concept(concept: Concept) -> dict[str, Tensor]:
    return {**{f"word {k}": w for k, w in concept.words.items()}, **concept.tensors}


def _learning(config: type[TrainConfig], **own: Any) -> Callable[..., Result]:
    def run(tiny: Any, on_step=lambda report: None, states=None, resume=False, **changes) -> Result:
        chosen = config(placeholder="<my-dog>", **SETTINGS | own | changes)
        sources = Sources(
            model=tiny.model,
            clip=tiny.clip,
            vae=tiny.vae,
            images=[noise(2, 64, 64, 3, seed=1)],
            masks=[square_masks(2)],
            clip_vision=clip_vision(),
            prior_images=[] if "prior_count" in changes else [noise(2, 64, 64, 3, seed=2)],
        )
        learned = learn(chosen, sources, on_step=on_step, states=states, resume=resume)
        return Result(_of_concept(learned.concept), learned.losses)

    return run


def _projection(tiny: Any) -> Tensor:
    """The text encoder's projection, which the host leaves uninitialised where a file has none."""
    tower = towers_of(tiny.clip).towers[-1]
    weight = tower.encoder.transformer.text_projection.weight
    if tower.name == "clip_l":
        with torch.inference_mode():
            weight.copy_(torch.eye(len(weight)))
    return weight


def _elite(stage: TrainingStage) -> Callable[..., Result]:
    def run(tiny: Any, on_step=lambda report: None, states=None, resume=False, **changes) -> Result:
        projection = _projection(tiny) if stage is TrainingStage.ALIGN else torch.eye(16)
        vision = clip_vision(projection_dim=len(projection))
        models = EliteModels(tiny.model, tiny.clip, tiny.vae, vision)
        start = random_encoder(tiny) if stage is TrainingStage.LOCAL else None
        subjects = GivenSubjects([noise(3, 64, 64, 3)], [square_masks(3)])
        chosen = EliteConfig(stage=stage, **SETTINGS | changes)
        trained = train_elite(
            chosen, models, subjects, start=start, on_step=on_step, states=states, resume=resume
        )
        made = trained.encoder.local_stage or trained.encoder.global_stage
        pairs = {f"{p} {n}": w for p, pair in made.projections.items() for n, w in enumerate(pair)}
        return Result({**made.mapper, **pairs}, trained.losses)

    return run


_TRAINERS: dict[str, Callable[..., Result]] = {
    "textual inversion": _learning(TextualInversionConfig, init_word="dog"),
    "cross initialization": _learning(CrossInitConfig, class_word="dog"),
    "catversion": _learning(CatVersionConfig, class_word="dog"),
    "custom diffusion": _learning(CustomDiffusionConfig, class_word="dog"),
    "detex": _learning(DetexConfig, class_word="dog"),
    "elite align": _elite(TrainingStage.ALIGN),
    "elite global": _elite(TrainingStage.GLOBAL),
    "elite local": _elite(TrainingStage.LOCAL),
}
TRAINERS = tuple(_TRAINERS)
"""Their names; all of them train a `tiny_sd1` and a `tiny_sdxl`."""

TRAINERS_AND_KINDS = [*((name, "sd1") for name in TRAINERS), ("catversion", "sdxl")]
"""Each on a `tiny_sd1`, and one on a `tiny_sdxl`, which learns in both of its text encoders."""

FEW_ZOOMS = 4
"""Variants of the zoomed pictures: a real training takes longer over them than over its steps."""


def run_trainer(name: str, tiny: Any, *args: Any, **changes: Any) -> Result:
    """One short training as a node runs it, in inference mode.

    tiny: TinyModels; args: on_step, states, resume; changes: of the config. With a `prior_count`
    the model makes the pictures of the class, otherwise they are given.
    """
    with torch.inference_mode(), mock.patch.object(zoom, "MOST_VARIANTS", FEW_ZOOMS):
        return _TRAINERS[name](tiny, *args, **changes)
