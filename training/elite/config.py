"""What a training of an ELITE encoder is told: its stage, and numbers of the paper."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ...concepts.errors import TrainingError
from ..config import LoopConfig


class TrainingStage(str, Enum):
    ALIGN = "align"
    GLOBAL = "global"
    LOCAL = "local"


MASKED = (TrainingStage.ALIGN, TrainingStage.LOCAL)
"""Stages that need masks."""

RATES = {TrainingStage.ALIGN: 2e-5, TrainingStage.GLOBAL: 1e-6, TrainingStage.LOCAL: 1e-5}
"""Learning rate for each picture of a batch (section 4.1 and the published code; the paper has no
stage align)."""


@dataclass(frozen=True, kw_only=True)
class EliteConfig(LoopConfig):
    """batch_size: pictures a step, over all processes and accumulated batches

    learning_rate: 0 for the paper's, which grows with the batch
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
    batch_size: int = 16
    learning_rate: float = 0.0
    zoom: bool = True
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", TrainingStage(self.stage))
        if self.learning_rate == 0:
            rate = RATES[self.stage] * max(self.batch_size, 1)
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
