"""Same seed, same machine, same bits: how torch computes while something is learned."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

_WARN, _STRICT = 1, 2  # torch's debug modes of deterministic algorithms


@contextmanager
def repeatable() -> Iterator[None]:
    """A block in which torch takes kernels that give the same bits in every run.

    Where an operation has no such kernel, torch warns and goes on. Afterwards all is as before: the
    host may have been started with --deterministic, or another node have settings of its own.
    """
    cudnn: Any = torch.backends.cudnn
    filling: Any = torch.utils.deterministic
    before = cudnn.deterministic, cudnn.benchmark
    mode, fills = torch.get_deterministic_debug_mode(), filling.fill_uninitialized_memory
    try:
        torch.set_deterministic_debug_mode(max(mode, _WARN))
        filling.fill_uninitialized_memory = False  # it costs time, and finds mistakes only
        cudnn.deterministic, cudnn.benchmark = True, False
        with _plain_tf32():
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        filling.fill_uninitialized_memory = fills
        torch.set_deterministic_debug_mode(mode)


@contextmanager
def _plain_tf32() -> Iterator[None]:
    """TF32 as torch starts with it: in convolutions, not in products of matrices.

    torch has two ways to set it and raises an error where a program has mixed them; then the
    setting stays as it is.
    """
    settings: list[tuple[Any, bool]] = [
        (torch.backends.cuda.matmul, False),
        (torch.backends.cudnn, True),
    ]
    changed: list[tuple[Any, bool]] = []
    try:
        for backend, wanted in settings:
            try:
                before = backend.allow_tf32
            except RuntimeError:
                continue
            if before != wanted:
                backend.allow_tf32 = wanted
                changed.append((backend, before))
        yield
    finally:
        for backend, before in changed:
            backend.allow_tf32 = before


def repeatable_attention(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An attention whose backward pass gives the same bits in every run.

    torch's fused attention has a deterministic backward pass, but takes it only where deterministic
    algorithms are demanded, not where torch shall warn. All of a training cannot demand them: then
    each product of matrices would fail, unless ComfyUI was started with --deterministic or cuBLAS's
    environment variable. So they are demanded while the backward pass of an attention runs.
    """

    @wraps(attend)
    def run(*args: Any, **kwargs: Any) -> Tensor:
        out = attend(*args, **kwargs)
        if torch.get_deterministic_debug_mode() == _WARN:
            node = _fused(out.grad_fn)
            if node is not None:
                node.register_prehook(_demand)
                node.register_hook(_demand_no_more)
        return out

    return run


def _fused(node: Any) -> Any:
    """The step of the backward pass that is torch's fused attention, behind the reshaping of its
    result; None where attention was put together from products of matrices."""
    for _ in range(_RESHAPES):
        if node is None or "Attention" in node.name():
            return node
        following = node.next_functions
        node = following[0][0] if len(following) == 1 else None
    return None


_RESHAPES = 6


def _demand(_gradients: Any) -> None:
    torch.set_deterministic_debug_mode(_STRICT)


def _demand_no_more(_inputs: Any, _outputs: Any) -> None:
    torch.set_deterministic_debug_mode(_WARN)
