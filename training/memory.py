"""Memory of a training: how many pictures fit at once, and what to do when it is too little."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ..concepts.errors import TrainingError
from ..host.backbone import Backbone
from .config import AnyConfig, LoopConfig

GIB = 2**30
RESERVE = GIB // 2
"""Bytes of a GPU that are left alone: for its convolutions' work space and gaps between tensors."""

MOMENTS = 2  # tensors that AdamW keeps for each parameter from its first step on


@contextmanager
def explain_out_of_memory(config: LoopConfig) -> Iterator[None]:
    """Turn a lack of memory into a sentence that names the settings that need it."""
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:  # its name before torch 2.5, too
        raise TrainingError(
            f"There is not enough memory to train with {config.at_once} pictures at once at "
            f"resolution {config.resolution}. {config.saving_memory}"
        ) from error


def fitted(
    config: AnyConfig,
    backbone: Backbone,
    parameters: Mapping[str, Tensor],
    *,
    rows: int = 1,
    maps: bool = False,
) -> AnyConfig:
    """The config with as many pictures at once as a GPU has memory for, where it leaves that open.
    Where all of them leave room, the models' weights are cast once to the types of computing.

    Inside a session, once the parameters are there. On a CPU the whole batch.
    rows: through the UNet for each picture, 2 with one of the class beside it
    maps: whether attention maps are read
    Raises TrainingError for a training that no free memory of this GPU would be enough for.
    """
    memory = backbone.memory()
    if memory is None:
        return config
    try:
        one, two = (backbone.step_bytes(n * rows, maps=maps) for n in (1, 2))
    except Exception as error:  # a count must not end a training that would have fitted
        logging.debug(f"The memory of a step could not be counted: {error}")
        return config
    learned = sum(p.nbytes for p in parameters.values())
    later = MOMENTS * learned + RESERVE
    _check_total(config, memory.total, one + later, backbone.model_bytes() + learned)
    room = memory.free - later
    more = max(two - one, 1)
    wanted = one + (config.at_once - 1) * more
    if 0 < backbone.cast_bytes() <= room - wanted:
        backbone.cast_once()
    if config.micro_batch or wanted <= room:
        return config
    # gradients of parts are added up, so there are those of two parts at a time
    fitting = 1 + max(room - learned - one, 0) // more
    parts = -(-config.at_once // fitting)
    size = -(-config.at_once // parts)
    logging.info(
        f"{config.at_once} pictures at once would need about {_gib(wanted)}, and the GPU has "
        f"{_gib(max(room, 0))} for them: they go through the model {size} at a time, "
        "which learns the same. micro_batch sets another number."
    )
    return replace(config, micro_batch=size)


def _check_total(config: LoopConfig, total: int, step: int, models: int) -> None:
    """Refuse a training of which not even one picture at once fits. In bytes: what the GPU has,
    what a step of one picture needs, and what the models and what is learned take."""
    if step + models > total:
        raise TrainingError(
            f"This training does not fit into the GPU: a step with 1 picture at once at resolution "
            f"{config.resolution} needs about {_gib(step)}, the models and what is learned "
            f"{_gib(models)}, and the GPU has {_gib(total)}. "
            f"{replace(config, micro_batch=1).saving_memory}"
        )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
