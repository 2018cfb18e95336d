"""Networks that are not the host's own, on its device for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from comfy import model_management


@contextmanager
def on_device(module: torch.nn.Module) -> Iterator[torch.device]:
    """Make room on the host's device, put the module there, and take it away again."""
    device = model_management.get_torch_device()
    needed = model_management.module_size(module) * 1.5  # weights, and what a batch needs
    model_management.free_memory(needed, device)
    try:
        with torch.inference_mode():  # a network made there must be moved there, too
            module.to(device)
        yield device
    finally:
        with torch.inference_mode():
            module.to("cpu")
        model_management.soft_empty_cache()
