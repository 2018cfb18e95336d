"""The device that the host of the tests computes on, and how its numbers compare.

It is the CPU, or with PERSONALIZE_DEVICE=cuda the GPU, or with PERSONALIZE_DEVICE=played an
accelerator that is played on the CPU. Tests make tensors on the CPU, as pictures, files and seeds
have theirs; what they hand to a module of the host goes through `there`. What comes back is
compared by `same` or `close`, wherever it lies.
"""

import os
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

PLAYED_RUN = "PERSONALIZE_PLAYED"
"""Environment variable of a run on the played device, whose servers and commands compute on the
CPU."""

TOLERANCES = {
    torch.float32: (1e-4, 1e-5),
    torch.float16: (1e-2, 1e-3),
    torch.bfloat16: (2e-2, 1e-2),
}
"""Relative and absolute, by type, for the same numbers computed in another order: a GPU's kernels
add up in theirs, and TF32 is off."""


def is_played() -> bool:
    return PLAYED_RUN in os.environ


def device() -> torch.device:
    """Where the host computes."""
    from comfy import model_management

    return model_management.get_torch_device()


def on_cpu() -> bool:
    return device().type == "cpu"


def there(value: Any) -> Any:
    """A tensor, or tensors in lists, tuples and dictionaries, on the device."""
    return _moved(value, device())


def here(value: Any) -> Any:
    """The same on the CPU."""
    return _moved(value, torch.device("cpu"))


def _moved(value: Any, to: torch.device) -> Any:
    return tree_map(lambda t: t.to(to) if isinstance(t, Tensor) else t, value)


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-5, rtol: float = 1e-5) -> bool:
    """torch.allclose; away from the CPU with the tolerance of the coarser of their types, if that
    is wider."""
    if not on_cpu():
        known = [TOLERANCES.get(tensor.dtype, (0.0, 0.0)) for tensor in (ours, theirs)]
        rtol, atol = max(rtol, *(one for one, _ in known)), max(atol, *(one for _, one in known))
    ours, theirs = here((ours, theirs))
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol, atol)


def same(ours: Tensor, theirs: Tensor) -> bool:
    """Bit-equal on the CPU; elsewhere, where shapes decide in which order is added up, `close`."""
    if on_cpu():
        return torch.equal(ours, theirs)
    return close(ours, theirs)


def cpu_only(reason: str) -> Any:
    """Marks what only the CPU promises."""
    elsewhere = is_played() or os.environ["PERSONALIZE_DEVICE"] != "cpu"  # which conftest sets
    return pytest.mark.skipif(elsewhere, reason=f"on the CPU only: {reason}")


def not_played(reason: str) -> Any:
    """Marks what the played device does not play, and a GPU has."""
    return pytest.mark.skipif(is_played(), reason=f"not on the played device: {reason}")
