"""A CUDA graph played on the CPU: operations are recorded, and run again on the very same tensors.

No Python of the step runs again, as with a real graph: what it decided, and numbers that it made,
are frozen, and results fall into the memory that they had.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

_FORBIDDEN = ("aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::is_nonzero")


class NotCapturable(RuntimeError):
    """An operation that a graph cannot have."""


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() in _FORBIDDEN:
            raise NotCapturable(f"{func.name()} reads from the device.")
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        made = _tensors(result)
        aliases = all(t.untyped_storage().data_ptr() in given for t in made)
        if func._schema.is_mutable or not aliases:
            fresh = [] if func._schema.is_mutable else [t.detach() for t in made]
            self.calls.append((func, args, kwargs, fresh))
        return result


def record(step: Callable[[], list[Tensor]]) -> tuple[list[Tensor], Callable[[], None]]:
    """As `training.replay.capture_on_cuda`."""
    with _Recorder() as recorder:
        results = step()

    def run() -> None:
        with torch.no_grad():
            for func, args, kwargs, kept in recorder.calls:
                made = _tensors(func(*args, **kwargs))
                for old, new in zip(kept, made, strict=False):  # what changes in place has none
                    old.copy_(new)

    return results, run


def _tensors(value: Any) -> list[Tensor]:
    return [t for t in tree_flatten(value)[0] if isinstance(t, Tensor)]
