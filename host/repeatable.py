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
        with _plain_products():
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        filling.fill_uninitialized_memory = fills
        torch.set_deterministic_debug_mode(mode)


_TF32, _FP16_SUMS = "allow_tf32", "allow_fp16_accumulation"


@contextmanager
def _plain_products() -> Iterator[None]:
    """Products of matrices and convolutions as torch starts with them: TF32 in convolutions alone,
    and sums of fp16 in fp32, which ComfyUI's --fast gives up and small gradients need.

    torch has two ways to set TF32 and raises an error where a program has mixed them; then the
    setting stays as it is. Sums in fp16 came with torch 2.7.
    """
    settings: list[tuple[Any, str, bool]] = [
        (torch.backends.cuda.matmul, _TF32, False),
        (torch.backends.cudnn, _TF32, True),
        (torch.backends.cuda.matmul, _FP16_SUMS, False),
    ]
    changed: list[tuple[Any, str, bool]] = []
    try:
        for backend, name, wanted in settings:
            try:
                before = getattr(backend, name)
            except (RuntimeError, AttributeError):
                continue
            if before != wanted:
                setattr(backend, name, wanted)
                changed.append((backend, name, before))
        yield
    finally:
        for backend, name, before in changed:
            setattr(backend, name, before)


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
