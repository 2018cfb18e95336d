"""Blocks in which nothing may wait for the played device: no number read, no tensor made here, and
no random number drawn there."""

from contextlib import contextmanager
from unittest import mock

import torch
from personalize.tests.played_device import Played
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

_ATTENTION = ("attention", "sdp")
"""In names of operations that would draw for a dropout, which no model of the host has."""

_COPIES = ("aten::to.device", "aten::to.dtype", "aten::_to_copy")


class Waited(AssertionError):
    """A step has asked the device for a number, or made a tensor elsewhere."""


class NoWaiting(TorchDispatchMode):
    """Lets no operation read a number from the device, or take or make a tensor on the CPU."""

    def __init__(self, copies):
        super().__init__()
        self.copies = copies

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() == "aten::_local_scalar_dense":
            raise Waited("A number was read from the device.")
        attends = any(part in func.name() for part in _ATTENTION)
        if torch.Tag.nondeterministic_seeded in func.tags and not attends:
            raise Waited(f"{func.name()} drew numbers that another device draws otherwise.")
        given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        copied = self.copies and func.name() in (
            "aten::to.device",
            "aten::to.dtype",
            "aten::_to_copy",
        )
        if not copied and any(t.ndim and not isinstance(t, Played) for t in given):
            raise Waited(f"{func.name()} was given a tensor of the CPU.")
        result = func(*args, **(kwargs or {}))
        made = [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]
        if any(t.numel() and not isinstance(t, Played) for t in made):
            raise Waited(f"{func.name()} made a tensor of the CPU: {[t.shape for t in made]}.")
        return result


@contextmanager
def no_waiting(copies=False):
    """copies: whether tensors may be copied to the device, as the host does with texts"""

    def refuse(self):
        raise Waited("A list was read from the device.")

    with mock.patch.object(Played, "tolist", refuse), NoWaiting(copies):
        yield
