"""Values that go together, for users who do not want to look them up."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """batch_size: None leaves it as it is set"""

    steps: int
    learning_rate: float
    batch_size: int | None = None

    @property
    def values(self) -> dict[str, Any]:
        """Fields of a config, without those that the preset leaves alone."""
        return {name: value for name, value in asdict(self).items() if value is not None}


SDXL_WORDS = Preset(400, 0.02, 4)
"""Of words for Stable Diffusion XL: what Cross Initialization's program for it starts Textual
Inversion and Cross Initialization with. It reads 768 px there; the base has 1024."""
