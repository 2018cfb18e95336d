"""What every training has to know, and what those of concepts have to know besides. Each method
extends it and sets its paper's numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, TypeVar

from ..concepts.bases import Base
from ..concepts.errors import TrainingError
from ..concepts.placeholders import check_placeholder
from ..host.backbone import Precision
from ..pictures.images import MIN_RESOLUTION

AnyConfig = TypeVar("AnyConfig", bound="LoopConfig")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """resolution: side of the training pictures in pixels, a multiple of 8; 0 for what the base
        model was made for

    templates: one prompt template a line, empty for the method's own
    save_every: steps between saved training states, 0 to save only at the end and when cancelled
    micro_batch: pictures of a batch that go through the UNet at once, 0 for as many as memory
        allows; their gradients add up to the batch's
    keep_activations: on a base whose UNet's blocks are computed twice in any case, to save memory,
        they are so only with gradient_checkpointing
    """

    steps: int
    batch_size: int
    learning_rate: float
    train_seed: int = 0
    resolution: int = 0
    flip: bool = True
    templates: str = ""
    weight_decay: float = 1e-2
    precision: Precision = Precision.AUTO
    gradient_checkpointing: bool = False
    save_every: int = 100
    micro_batch: int = 0
    keep_activations: bool = False
    former: ClassVar[Mapping[str, Any]] = {"keep_activations": False}
    """Fields that earlier versions lacked, and the values that stand for what those did."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", Precision(self.precision))
        if self.steps < 1 or self.batch_size < 1:
            raise TrainingError(
                f"Expected at least 1 step and 1 picture a batch, got steps {self.steps} and "
                f"batch_size {self.batch_size}."
            )
        if self.micro_batch < 0:
            raise TrainingError(
                f"Expected a micro_batch of 1 or more, got {self.micro_batch}. 0 takes as many "
                "pictures at once as memory allows."
            )
        if not 0 < self.learning_rate < 1e3:
            raise TrainingError(
                f"Expected a learning_rate above 0, got {self.learning_rate}. 0.005 is usual."
            )
        if self.resolution and (self.resolution < MIN_RESOLUTION or self.resolution % 8):
            raise TrainingError(
                f"Expected a resolution of at least {MIN_RESOLUTION} that 8 divides, got "
                f"{self.resolution}. 0 takes what the base model was made for."
            )

    def identity(self) -> dict[str, Any]:
        """The fields that decide what the parameters are after a given number of steps.

        One that stands for what earlier versions did is left out, as they had none: so the states
        of those are found, and only by trainings that go on as they began.
        """
        fields = self.as_json()
        for bookkeeping in ("steps", "save_every", "micro_batch"):
            del fields[bookkeeping]
        unlike = object()
        return {k: v for k, v in fields.items() if v != self.former.get(k, unlike)}

    def on_base(self: AnyConfig, base: Base, resolution: int) -> AnyConfig:
        """The config with the base model's own values where they are left to it.

        resolution: of the pictures that this very model was trained on
        """
        return self if self.resolution else replace(self, resolution=resolution)

    @property
    def at_once(self) -> int:
        """Pictures that go through the UNet at once."""
        return min(self.micro_batch or self.batch_size, self.batch_size)

    @property
    def saving_memory(self) -> str:
        """What to change when memory runs out, in sentences."""
        lower = "Lower resolution"
        if self.keep_activations and not self.gradient_checkpointing:
            lower = "Switch keep_activations off or lower resolution"
        elif not self.gradient_checkpointing:
            lower = "Switch gradient_checkpointing on or lower resolution"
        other = f"{lower}; the steps so far are kept, but other settings make another training."
        if self.at_once == 1:
            return other
        return (
            f"Set micro_batch to {self.at_once // 2}: the training then goes on where it stopped, "
            f"and learns the same. Otherwise: {other}"
        )

    def as_json(self) -> dict[str, Any]:
        return {k: v.value if isinstance(v, Precision) else v for k, v in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    """placeholder: the word that will stand for the concept in prompts"""

    placeholder: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "placeholder", check_placeholder(self.placeholder))
        super().__post_init__()


def check_class_word(class_word: str, field: str = "class_word") -> None:
    """Raise TrainingError for an empty one, where a method cannot do without."""
    if not class_word.strip():
        raise TrainingError(f"The {field} is empty. Write what the subject is, such as dog.")
