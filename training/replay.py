"""A training step as a CUDA graph: captured once, replayed with new numbers in the same memory.

A step of Stable Diffusion launches thousands of kernels, and at small batches the GPU waits for
Python. A graph launches all of them at once. It runs no Python and knows addresses alone, so it
stands only for a step that depends on nothing but tensors that stay where they are: what was drawn,
copied into buffers of its own, the models' weights and what is trained. When the weights are about
to be moved it is dropped, and captured again later.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..host.backbone import Backbone

SETTING = "PERSONALIZE_REPLAY"
"""Environment variable; 1 lets steps be replayed on CUDA."""

EAGER_STEPS = 2
"""Steps before a capture, in which libraries start up. Weights that move more often than that are
not worth one."""

CHECKED_REPLAYS = 2
"""Replays that are held against the same step without a graph: the first, with the numbers of its
capture, and another one, which finds what the graph has frozen by mistake."""

TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far a replay's results may be from the step's, relative to their norm."""

StepFunction = Callable[..., list[Tensor]]
"""From inputs, a dataclass of tensors, and settings that do not change to results."""

Capture = Callable[[Callable[[], list[Tensor]]], tuple[list[Tensor], Callable[[], None]]]
"""Runs a function once; returns its results, and what computes them anew in the same memory."""


@dataclass
class Recording:
    """One captured step. inputs: its own buffers; results: overwritten by each replay."""

    inputs: Any
    results: list[Tensor]
    run: Callable[[], None]
    checked: int = 0

    def replay(self, inputs: Any) -> list[Tensor]:
        with torch.no_grad():
            torch._foreach_copy_(list(tensors_in(self.inputs)), list(tensors_in(inputs)))
        self.run()
        return self.results


class Replayed:
    """A step that is replayed where it can be, and otherwise runs as it is.

    dtype: that it computes in, which decides how far a replay may be from it
    capture: None never to replay
    """

    def __init__(self, step: StepFunction, dtype: torch.dtype, capture: Capture | None) -> None:
        self._step, self._capture = step, capture
        self._tolerance = TOLERANCES.get(dtype, TOLERANCES[torch.float32])
        self._recordings: dict[Hashable, Recording] = {}
        self._seen: Counter[Hashable] = Counter()

    def __call__(self, inputs: Any, *settings: Hashable) -> list[Tensor]:
        """The step's results. Copy what is needed beyond the next call: it may overwrite them.

        There is one recording for each layout of the inputs and each choice of settings.
        """
        if self._capture is None:
            return self._step(inputs, *settings)
        key = (layout_of(inputs), settings)
        recording = self._recordings.get(key)
        if recording is None:
            self._seen[key] += 1
            if self._seen[key] <= EAGER_STEPS:
                return self._step(inputs, *settings)
            return self._record(key, inputs, settings)
        if recording.checked == CHECKED_REPLAYS:
            return recording.replay(inputs)
        expected = None
        try:
            expected = self._step(inputs, *settings)
        except torch.cuda.OutOfMemoryError:  # the graph keeps all that a step needs a second time
            self._give_up("there is too little memory for a step beside it")
        if expected is not None:
            return self._check(recording, expected, inputs)
        del recording
        return self._step(inputs, *settings)

    @property
    def overwrites(self) -> bool:
        """Whether a call may overwrite the results of the one before."""
        return self._capture is not None

    def forget(self) -> None:
        """Drop all recordings and their memory, since the weights move or others need it."""
        self._recordings.clear()
        self._seen.clear()

    def _record(self, key: Hashable, inputs: Any, settings: tuple[Hashable, ...]) -> list[Tensor]:
        assert self._capture is not None
        own = _copied(inputs)
        expected = self._step(own, *settings)
        try:
            recording = Recording(own, *self._capture(lambda: self._step(own, *settings)))
        except RuntimeError as error:  # of CUDA, too little memory among them
            self._give_up(f"it could not be captured ({str(error).splitlines()[0]})")
            return expected
        self._recordings[key] = recording
        return self._check(recording, expected, inputs)

    def _check(self, recording: Recording, expected: list[Tensor], inputs: Any) -> list[Tensor]:
        """The expected results, and whether a replay gives them."""
        found = recording.replay(inputs)
        if not all(bool(tensor.isfinite().all()) for tensor in expected):
            return expected  # an overflow, or the end of the training: nothing to compare
        recording.checked += 1
        apart = _difference(found, expected)
        if not apart <= self._tolerance:
            self._give_up(f"its results were {apart:.1e} apart, relative to their size")
        elif recording.checked == CHECKED_REPLAYS:
            logging.debug(f"Training steps are replayed, {apart:.1e} from what they were.")
        return expected

    def _give_up(self, reason: str) -> None:
        self.forget()
        self._capture = None
        logging.warning(f"Training goes on without replaying its steps on the GPU: {reason}.")


def capture_for(backbone: Backbone) -> Capture | None:
    """How to capture steps on a model's device; None where they are not replayed."""
    if os.environ.get(SETTING) != "1" or backbone.device.type != "cuda":
        return None
    return capture_on_cuda if backbone.text.device == backbone.device else None


def capture_on_cuda(
    step: Callable[[], list[Tensor]],
) -> tuple[list[Tensor], Callable[[], None]]:
    """Capture a step as a CUDA graph. Other threads of the server may use CUDA meanwhile."""
    graph = torch.cuda.CUDAGraph()
    own, stream = torch.cuda.current_stream(), _capture_stream(torch.cuda.current_device())
    stream.wait_stream(own)
    with torch.cuda.stream(stream):
        step()  # libraries make what they need for a stream at its first use
    own.wait_stream(stream)
    capture = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
    with torch.cuda.stream(own), capture:  # torch stays in the other one where a capture fails
        results = step()
    return results, graph.replay


@cache  # libraries keep a work space of many MB for each stream that they have seen
def _capture_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a dataclass in the order of its fields, those of dataclasses in it too."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))


def layout_of(value: Any) -> Hashable:
    """Types, shapes and devices of the tensors in a dataclass, and what else it holds."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.device
    if is_dataclass(value):
        layouts = (layout_of(getattr(value, field.name)) for field in fields(value))
        return type(value), tuple(layouts)
    return value


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _copied(getattr(value, f.name)) for f in fields(value)})
    return value


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest distance of two tensors, relative to the expected one's norm."""
    least = torch.finfo(torch.float32).tiny
    apart = [
        (a.float() - b.float()).norm() / b.float().norm().clamp(min=least)
        for a, b in zip(found, expected, strict=True)
    ]
    return torch.stack(apart).max().item()
