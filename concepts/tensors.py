"""What every file needs of its tensors: a copy, a digest, and that they are finite."""

import hashlib
import json
from collections.abc import Mapping
from typing import IO, Any

import torch
from torch import Tensor

_PIECE = 2**20  # bytes read at once


def copied(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A contiguous copy on the CPU; of a tensor on `meta`, which has no numbers, itself."""
    if tensor.is_meta:
        return tensor.to(dtype or tensor.dtype)
    return tensor.detach().to("cpu", dtype or tensor.dtype, copy=True).contiguous()


def fill(tensor: Tensor, file: IO[bytes]) -> None:
    """Read a tensor's numbers from a file straight into their place, a piece at a time."""
    if not tensor.numel():
        return
    place: Any = tensor.view(-1).view(torch.uint8).numpy()
    while len(place):
        count: Any = file.readinto(place[:_PIECE])  # type: ignore[attr-defined]
        if not count:
            raise ValueError("it ends too soon")
        place = place[count:]


def is_finite(tensor: Tensor) -> bool:
    """No NaN and nothing infinite; a tensor on `meta` passes."""
    if tensor.is_meta or not tensor.is_floating_point():
        return True
    numbers = tensor.float() if tensor.element_size() == 1 else tensor  # fp8 has no isfinite
    return bool(numbers.isfinite().all())


def digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Tells tensors, their names and types, and metadata from any other; SHA-256."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    if metadata is not None:
        digest.update(json.dumps(dict(metadata), sort_keys=True).encode())
    return digest.hexdigest()
