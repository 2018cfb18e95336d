"""What a step costs on the device that the host computes on: time, and memory at its peak."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GIB = 2**30
STATUS = Path("/proc/self/status")
"""Where Linux tells how much memory a process has."""


def device_of_host() -> torch.device:
    from comfy.model_management import get_torch_device

    return get_torch_device()


def conditions() -> str:
    """Types and processors of a bench, in words."""
    import torch

    from ..cli.comfyui import device_name

    if device_of_host().type == "cpu":
        return f"fp32, {torch.get_num_threads()} threads"
    return f"fp16 (diffusers by autocast), {device_name()}"


def as_diffusers_trains() -> AbstractContextManager[Any]:
    """fp32 weights, computed in fp16 on a GPU, as diffusers' example scripts do."""
    import torch

    if device_of_host().type == "cpu":
        return nullcontext()
    return torch.autocast(device_of_host().type, torch.float16)


def synchronize() -> None:
    """Wait until the GPU has done what it was told, so that a clock means something."""
    import torch

    if device_of_host().type == "cuda":
        torch.cuda.synchronize()


def memory() -> dict[str, float]:
    """GiB now and at the peak: what torch has allocated on a GPU, or what is resident here, where
    the system is Linux; NaN elsewhere."""
    import torch

    if device_of_host().type == "cuda":
        now, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        return {"now": now / GIB, "peak": peak / GIB}
    if not STATUS.is_file():
        return {"now": math.nan, "peak": math.nan}
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {
        name: int(fields[key].split()[0]) * 2**10 / GIB
        for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))
    }


def reset_peak() -> None:
    """Let the peak of `memory` begin anew."""
    import torch

    if device_of_host().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif STATUS.is_file():
        STATUS.with_name("clear_refs").write_text("5", encoding="utf-8")
