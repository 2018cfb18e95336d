"""Dynamic VRAM, the host's default on NVIDIA, on the played device.

The host's own classes run; its library for the GPU's memory is replaced by one in which no weight
ever stays, so that each is brought over at each use.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from comfy.model_patcher import ModelPatcher
from safetensors import safe_open

_HOSTS_LOAD_LIST = ModelPatcher._load_list


class NothingStays:
    """The memory of one model on the device."""

    def __init__(self, size: int, device: int) -> None:
        self.given = 0

    def prioritize(self) -> None:
        pass

    def alloc(self, size: int) -> tuple[Any, int, int]:
        self.given += size
        return self, self.given - size, size

    def loaded_size(self) -> int:
        return 0

    def free_memory(self, size: float) -> int:
        return 0


class NoBuffer:
    """A pinned memory that holds nothing."""

    size = 0

    def __init__(self, *sizes: int) -> None:
        pass


def _read(path: str) -> tuple[dict[str, Any], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _load_list(self: Any, for_dynamic: bool = False, default_device: Any = None) -> Any:
    """The host's, which gives parameters new data where the played device wants new parameters."""
    for module in self.model.modules():
        if default_device is not None and any(True for _ in module.children()):
            for name, weight in module.named_parameters(recurse=False):
                moved = torch.nn.Parameter(weight.to(default_device), requires_grad=False)
                module._parameters[name] = moved
    return _HOSTS_LOAD_LIST(self, for_dynamic)


@contextmanager
def dynamic_vram() -> Iterator[None]:
    """A block in which the host loads models with dynamic VRAM; inside `host_with`."""
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher
    import comfy.utils
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_vbar

    replaced = [
        (comfy.memory_management, "aimdo_enabled", True),
        (comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic),
        (comfy.model_patcher.ModelPatcher, "_load_list", _load_list),
        (comfy.model_management.args, "disable_pinned_memory", True),
        (comfy.utils, "load_safetensors", _read),
        (comfy_aimdo.host_buffer, "HostBuffer", NoBuffer),
        (comfy_aimdo.model_vbar, "ModelVBAR", NothingStays),
        (comfy_aimdo.model_vbar, "vbar_fault", lambda place: None),
        (comfy_aimdo.model_vbar, "vbar_unpin", lambda place: None),
    ]
    with ExitStack() as stack:
        for owner, name, value in replaced:
            stack.enter_context(mock.patch.object(owner, name, value))
        try:
            yield
        finally:
            with torch.inference_mode():  # as the host does it, so while its parts are replaced
                comfy.model_management.unload_all_models()
