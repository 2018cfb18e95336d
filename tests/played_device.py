"""An accelerator played on the CPU, for what only shows where there are two kinds of memory.

Its tensors lie on the CPU and compute there, but they say `lazy:0` of themselves, refuse to meet
tensors of the CPU as a GPU's do, know no float64 (as on Apple's) and share no memory with another
tensor (as on DirectML). What a real device computes is not played: its numbers are the CPU's.
"""

import types
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

# a device type that torch knows and this computer has not, whose gradients torch computes in the
# calling thread; any other wants a driver
PLAYED = torch.device("lazy:0")
CPU = torch.device("cpu")

_COPIES = ("aten::copy_", "aten::_to_copy")
_INDEXED = {  # every device takes indices and masks from the CPU; the CPU none of a device
    "aten::index.Tensor",
    "aten::index_put_",
    "aten::index_put",
    "aten::_index_put_impl_",
}
_GIBIBYTE = 2**30


class DeviceMix(AssertionError):
    """An operation got tensors of the played device and of the CPU."""


class Played(Tensor):
    """A tensor of the played device; `inner` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Played":
        if inner.dtype in (torch.float64, torch.complex128):
            raise TypeError("The played device has no float64, as Apple's have none.")
        played = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=PLAYED,
        )
        played.inner = inner
        return played

    def __repr__(self, **_: Any) -> str:
        return f"Played({self.inner!r})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_with_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_with_tensors(index), value)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _with_tensors(index: Any) -> Any:
    """An index without lists and slices by tensors, which torch would make on the device unseen."""
    if isinstance(index, tuple):
        return tuple(_with_tensors(part) for part in index)
    return torch.tensor(index) if isinstance(index, list) else index


class _Generator(torch.Generator):
    """A generator of whatever device, the played one, too: its numbers are the CPU's."""

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        return super().__new__(cls, CPU if torch.device(device).type == PLAYED.type else device)


class _PlayedOperations(TorchDispatchMode):
    """Sees also what makes a tensor of the played device from nothing or from the CPU's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors: list[Tensor] = []
    wanted: list[torch.device] = []
    _gather((args, *kwargs.values()), tensors, wanted)
    played = [t for t in tensors if isinstance(t, Played)]
    if not played and all(device.type != PLAYED.type for device in wanted):
        return func(*args, **kwargs)
    name = func.name()
    if played and name == "aten::_has_compatible_shallow_copy_type":
        return False  # a module that moves there and back gets new parameters
    if wanted:
        to_played = wanted[0].type == PLAYED.type
    else:
        to_played = isinstance(tensors[0], Played)
        _check_mix(name, _met(name, args, tensors))
    if played and name.startswith("aten::set_"):
        raise RuntimeError("The played device shares no memory.")
    if played and name == "aten::_fused_sdp_choice":
        return 0  # attention by plain multiplications: the CPU's fused kernels ask for its device
    result = func(*_on_cpu(args), **{key: _on_cpu(value) for key, value in kwargs.items()})
    if not to_played:
        return result
    own = {id(t.inner): t for t in played}  # of operations in place
    with _as_the_viewed(func, args):
        return _there(result, own)


def _as_the_viewed(func: Any, args: Any) -> AbstractContextManager[Any]:
    """In inference mode a view of an ordinary tensor is an ordinary one, too. Of one that was made
    in inference mode and moved outside of it there is none, as on every device."""
    if not torch.is_inference_mode_enabled() or func.name().startswith("aten::to."):
        return nullcontext()  # which returns its tensor as it is
    view = any(given.alias_info and not given.alias_info.is_write for given in func._schema.returns)
    ordinary = view and isinstance(args[0], Tensor) and not args[0].is_inference()
    return torch.inference_mode(False) if ordinary else nullcontext()


# Each operation passes here, so that these three take apart only what operations have, lists and
# tuples; torch's own `pytree` asks for more and takes half of a training's time.


def _gather(values: Any, tensors: list[Tensor], devices: list[torch.device]) -> None:
    """Tensors and devices among an operation's arguments, in their order."""
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, (list, tuple)):
            _gather(value, tensors, devices)
        elif isinstance(value, torch.device):
            devices.append(value)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Played):
        return value.inner
    if isinstance(value, (list, tuple)):
        return type(value)([_on_cpu(part) for part in value])
    return CPU if isinstance(value, torch.device) and value.type == PLAYED.type else value


def _there(result: Any, own: dict[int, Played]) -> Any:
    """A result on the played device: as the tensor that it was, where the operation changed one."""
    if isinstance(result, Tensor):
        return own[id(result)] if id(result) in own else Played(result)
    if isinstance(result, (list, tuple)):
        return type(result)([_there(part, own) for part in result])
    return result


def _met(name: str, args: Any, tensors: list[Tensor]) -> list[Tensor]:
    """The tensors that must lie on one device."""
    if name in _COPIES:
        return []
    if name in _INDEXED and isinstance(args[0], Played):
        return [args[0], *(t for t in args[2:3] if isinstance(t, Tensor))]
    return tensors


def _check_mix(name: str, tensors: list[Tensor]) -> None:
    """Tensors of an operation that has one of the played device."""
    if any(not isinstance(t, Played) and t.ndim for t in tensors):
        shapes = [(str(t.device), tuple(t.shape)) for t in tensors]
        raise DeviceMix(f"Expected all tensors of {name} on one device, got {shapes}.")


@contextmanager
def played_device() -> Iterator[torch.device]:
    """A block in which there is the played device."""
    made = torch.tensor
    _device_constructors()  # torch looks once for what makes tensors, and would find the stand-in

    def tensor(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        found = made(*args, **kwargs)  # torch would move it unseen by modes
        return found if device is None else found.to(device)

    with (
        mock.patch.object(torch, "tensor", tensor),
        mock.patch.object(torch, "Generator", _Generator),  # that samplers make their noise with
        # torch's checkpoints ask a module of the device's name for its random state
        mock.patch.object(torch, "lazy", types.ModuleType("lazy"), create=True),
        _PlayedOperations(),
    ):
        yield PLAYED


@contextmanager
def host_with(device: torch.device, text: torch.device | None = None) -> Iterator[None]:
    """The host in this process, started with --cpu, computes on a device.

    text: where text encoders are, the CPU for what --lowvram, Apple's and old cards make of it
    Only models loaded inside the block are there.
    """
    from comfy import model_management

    def free(dev: Any = None, torch_free_too: bool = False) -> Any:
        return (8 * _GIBIBYTE, 8 * _GIBIBYTE) if torch_free_too else 8 * _GIBIBYTE

    answers = {
        "get_torch_device": lambda: device,
        "get_all_torch_devices": lambda exclude_current=False: [] if exclude_current else [device],
        "vae_device": lambda: device,
        "text_encoder_device": lambda: text or device,
        "get_free_memory": free,
        "get_total_memory": free,
    }
    with ExitStack() as stack:
        there = {name: a for name, a in answers.items() if hasattr(model_management, name)}
        for name, answer in there.items():  # ComfyUI before 0.24 knows one device only
            stack.enter_context(mock.patch.object(model_management, name, answer))
        try:
            yield
        finally:
            with torch.inference_mode():
                model_management.unload_all_models()
