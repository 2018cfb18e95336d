"""Too little memory: which settings need it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..concepts.errors import TrainingError
from .config import LoopConfig


@contextmanager
def explain_out_of_memory(config: LoopConfig) -> Iterator[None]:
    """Turn a lack of memory into a sentence that names the settings that need it."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"There is not enough memory to train with {config.at_once} pictures at once at "
            f"resolution {config.resolution}. {config.saving_memory}"
        ) from error
