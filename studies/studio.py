"""The miniature in this process: learn a subject with a recipe, draw prompts, no server between.

The pack's own nodes say which settings there are: a recipe's inputs become the config of its node.
"""

from __future__ import annotations

import atexit
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..cli.comfyui import prepare_host
from ..miniature.files import WEIGHTS
from ..miniature.subjects import Subject, Views
from ..tools.server.server import make_base_directory
from .miniature_models import SIZE, Miniature, load_miniature
from .recipes import DRAWING, PLACEHOLDER, Recipe

if TYPE_CHECKING:
    from ..concepts.concept import Concept
    from ..training.config import TrainConfig
    from ..training.loop import StepReport


@dataclass(frozen=True)
class Studio:
    """The miniature, and a folder for the class pictures that trainings share."""

    models: Miniature
    folder: Path

    @classmethod
    def open(cls, folder: Path, weights: Path = WEIGHTS) -> Studio:
        """Start the host in this process, on folders of its own, and load the miniature."""
        base = make_base_directory()
        atexit.register(shutil.rmtree, base, ignore_errors=True)
        prepare_host(None, base)
        return cls(load_miniature(weights), folder)

    @staticmethod
    def config(recipe: Recipe, subject: Subject, changes: dict[str, Any]) -> TrainConfig:
        """What the recipe's node would train with; `changes` are settings unlike the recipe's."""
        from ..nodes import NODE_CLASS_MAPPINGS

        values = {**recipe.inputs(subject), "save_every": 0, **changes}
        return NODE_CLASS_MAPPINGS[recipe.node].make_config(values)

    def learn(
        self,
        config: TrainConfig,
        views: Views,
        on_step: Callable[[StepReport], None] = lambda report: None,
    ) -> Concept:
        from ..training.learn import learn

        sources = self.models.sources(
            [views.pictures], masks=[views.masks], prior_folder=self.folder / "prior"
        )
        return learn(config, sources, on_step=on_step).concept

    def encode(self, encoder: Path, subject: Subject, views: Views) -> Concept:
        """ELITE: a concept in one pass."""
        from ..concepts.elite_files import load_encoder_files
        from ..training.elite.encoding import encode_elite

        return encode_elite(
            load_encoder_files(encoder, None),
            self.models.vision,
            views.pictures,
            views.masks,
            placeholder=PLACEHOLDER,
            class_word=subject.class_word,
        )

    def draw(
        self,
        prompts: Sequence[str],
        concept: Concept | None = None,
        *,
        seed: int = 0,
        details: float = 0.8,
    ) -> Tensor:
        """A picture of each prompt, (n, 128, 128, 3) in 0..1; prompt k starts from seed + k.

        details: strength of ELITE's
        """
        from ..host.sampling import texts_to_images
        from ..samplers.apply import apply_concept
        from ..samplers.local_attention import Details

        model, clip = self.models.model, self.models.clip
        with torch.inference_mode():
            if concept is not None:
                model, clip = apply_concept(model, clip, concept, details=Details(details))
            vae = self.models.vae
            drawn = texts_to_images(model, clip, vae, prompts, SIZE, seed=seed, **DRAWING)
        return drawn.clone()


class Stopwatch:
    """Processor seconds of learning, without the pauses in which pictures are drawn.

    On one thread these are the seconds of a machine with nothing else to do.
    """

    def __init__(self) -> None:
        self._start = time.process_time()

    @property
    def seconds(self) -> float:
        return time.process_time() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        before = time.process_time()
        yield
        self._start += time.process_time() - before
