"""What a training of an ELITE encoder is told: its stage, and numbers of the paper."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from ...concepts.errors import TrainingError
from ..config import LoopConfig


class TrainingStage(str, Enum):
    """Align is a start of ours, see `alignment.py`; global and local are the paper's two."""

    ALIGN = "align"
    GLOBAL = "global"
    LOCAL = "local"


MASKED = (TrainingStage.ALIGN, TrainingStage.LOCAL)
"""Stages that need masks."""


@dataclass(frozen=True)
class Published:
    """batch_size: of a step; rate: for each picture of it, so that what a step goes by is their
    product"""

    batch_size: int
    rate: float

    @property
    def effective(self) -> float:
        return self.rate * self.batch_size


PROGRAM = {
    TrainingStage.ALIGN: Published(64, 2e-5),  # of neither paper nor program
    TrainingStage.GLOBAL: Published(64, 1e-6),  # 4 GPUs x 4 pictures x 4 batches
    TrainingStage.LOCAL: Published(32, 1e-5),  # 4 GPUs x 2 pictures x 4 batches
}
"""The published scripts, `train_global.sh` and `train_local.sh`, both with `scale_lr`."""

PAPER = {
    TrainingStage.GLOBAL: Published(16, 1e-6),
    TrainingStage.LOCAL: Published(8, 1e-5),
}
"""Section 4.1."""


@dataclass(frozen=True, kw_only=True)
class EliteConfig(LoopConfig):
    """batch_size: pictures a step, over all processes and accumulated batches; 0 for the program's

    learning_rate: 0 for the published one, which grows with the batch
    stretch: in the global stage the encoder sees three pictures of ten affinely distorted
    sum_channels: the local stage's denoising loss is summed over the latent's channels, since the
        published code divides by a mask of one channel; else their mean, a quarter of it
    flip: in the global stage the encoder sees every second picture mirrored
    zoom: in the local stage pictures are drawn smaller, on grey, or larger, and the prompts say so;
        off for a model that has not seen such pictures
    words_weight, values_weight: of mean |v| in the global, of mean |V_l| in the local stage
    clip_norm: longest gradient
    accumulation: batches that a step is split into, to save memory
    warmup: steps in which the learning rate rises from 0
    cosine: whether it falls to 0 towards the last step
    start_scale: of the mapper's last layers when it starts from nothing: below 1 its words start
        nearer to the size of ordinary ones, and learn sooner; 1 in the published code
    average: decay of a running average of what is trained, which is then the result; 0 for none
    projections_share: of the learning rate, for keys and values: below 1 they keep what the prompts
        of the training do not say; 1 in the published code
    """

    stage: TrainingStage = TrainingStage.GLOBAL
    steps: int = 60000
    batch_size: int = 0
    learning_rate: float = 0.0
    zoom: bool = True
    stretch: bool = True
    sum_channels: bool = True
    words_weight: float = 0.01
    values_weight: float = 0.0001
    clip_norm: float = 1.0
    accumulation: int = 1
    warmup: int = 0
    cosine: bool = False
    start_scale: float = 1.0
    average: float = 0.0
    projections_share: float = 1.0
    save_every: int = 200
    former: ClassVar[Mapping[str, Any]] = {
        **LoopConfig.former,
        "stretch": False,
        "sum_channels": False,
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", TrainingStage(self.stage))
        published = PROGRAM[self.stage]
        if self.batch_size == 0:
            object.__setattr__(self, "batch_size", published.batch_size)
        if self.learning_rate == 0:
            rate = published.rate * max(self.batch_size, 1)
            object.__setattr__(self, "learning_rate", rate)
        super().__post_init__()
        if not 0 <= self.average < 1:
            raise TrainingError(
                f"Expected an average from 0 (none) to below 1, got {self.average}. 0.999 is usual."
            )

    def process_batch_size(self, processes: int) -> int:
        """Pictures of one batch of one process."""
        parts = processes * self.accumulation
        if parts < 1 or self.batch_size % parts:
            raise TrainingError(
                f"A batch of {self.batch_size} pictures cannot be shared by {processes} processes "
                f"with {self.accumulation} batches each. Choose a batch_size that {parts} divides."
            )
        return self.batch_size // parts

    def rate(self, step: int) -> float:
        """Factor of the learning rate at a step, counted from 0."""
        risen = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return risen * (0.5 + 0.5 * math.cos(math.pi * step / self.steps) if self.cosine else 1.0)

    @property
    def at_once(self) -> int:
        size = max(self.batch_size // self.accumulation, 1)
        return min(self.micro_batch or size, size)

    def identity(self) -> dict[str, Any]:
        fields = super().identity()
        del fields["accumulation"]
        return fields | ({"steps": self.steps} if self.cosine else {})
