"""The one training loop. It knows no method, no progress bar and no file layout."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from ..concepts.errors import TrainingError
from ..concepts.tensors import is_finite
from ..host.backbone import Backbone
from .batch import Batch, parts_of
from .config import LoopConfig
from .descent import SHARE, AveragedAdamW, Descent, clipped
from .replay import Replayed, capture_for

SMALL_STATE = 4 * 2**20
"""Bytes of a state that may be kept more often than to resume: words and residuals are small, the
changes of a model's weights are not."""


class Learner(Protocol):
    """Something in training: its trainable tensors and their loss."""

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Trainable fp32 leaves by name."""
        ...

    def loss(self, backbone: Backbone, batch: Any) -> dict[str, Tensor]:
        """Terms of the loss by name, weights included; their sum is minimised."""
        ...


@dataclass(frozen=True)
class TrainState:
    """All that a training needs to go on as if it had never stopped."""

    step: int
    parameters: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    generator: Tensor
    loss_scale: float
    losses: dict[str, list[float]]


@dataclass(frozen=True)
class StepReport:
    """What a callback is told after each step; `losses` is the history of every term and "loss".

    keep: saves the state of this step if it is small, so that its concept can be had later without
        training again; returns the steps whose states are kept
    """

    step: int
    steps: int
    losses: dict[str, list[float]]
    learner: Any  # a Learner; callbacks know of which kind
    backbone: Backbone
    read: Callable[[Tensor], Tensor] = torch.detach  # what is kept of a parameter: its average
    keep: Callable[[], list[int]] = list


class StopTraining(Exception):
    """Raised by a callback to end a training early with what was learned so far."""


OnStep = Callable[[StepReport], None]

Draw = Callable[[int, Generator], Any]
"""The batch of a number, counted from 0; what is random in it comes from the generator, or from the
number alone."""


Check = Callable[[TrainState], None]


class StateKeeper(Protocol):
    """Where training states are kept between runs."""

    def latest(self, up_to: int, check: Check) -> TrainState | None:
        """The furthest state that can be read; the check raises TrainingError for a wrong one."""
        ...

    def save(self, state: TrainState) -> None: ...

    def steps(self) -> list[int]:
        """Steps whose states are kept."""
        ...


class NoStates:
    """Keeps nothing."""

    def latest(self, up_to: int, check: Check) -> TrainState | None:
        return None

    def save(self, state: TrainState) -> None:
        pass

    def steps(self) -> list[int]:
        return []


@dataclass(frozen=True)
class StepInputs:
    """All that changes in a step beside what is trained: tensors, so that steps can be replayed.

    share: of a larger batch; scale: of the loss, for fp16; both numbers, ()
    """

    batch: Any
    share: Tensor
    scale: Tensor


@dataclass
class Training:
    """A training under way: parameters, optimizer, random numbers and loss history."""

    learner: Learner
    config: LoopConfig
    backbone: Backbone
    draw: Draw
    descent: Descent = field(default_factory=Descent)
    step: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generator = Generator().manual_seed(self.config.train_seed)
        self.optimizer = AveragedAdamW(
            self.descent.groups(self.learner.parameters),
            self.descent.average,
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
        )
        self.scale = LossScale(self.backbone.compute_dtype)
        self._names: list[str] = []
        capture = capture_for(self.backbone)
        self._replayed = Replayed(self._compute, self.backbone.compute_dtype, capture)
        if capture is not None:
            self.backbone.before_moving(self._replayed.forget)

    def resume(self, states: StateKeeper) -> None:
        """Go on from the furthest kept state of at most the wanted steps, if there is one."""
        state = states.latest(self.config.steps, self.check)
        if state is not None:
            self.restore(state)

    def run(self, states: StateKeeper, on_step: OnStep) -> dict[str, list[float]]:
        """Train to the last step, or until the callback raises StopTraining; keep the state on the
        way and whenever a step or callback ends it.

        Returns the history of every loss term and of their sum, "loss".
        Raises TrainingError when the loss turns NaN, and whatever the callback raises.
        """
        saved = self.step

        def save() -> None:
            nonlocal saved
            if saved != self.step and self._is_sound():
                states.save(self.state())
                saved = self.step

        def keep() -> list[int]:
            if self._bytes() <= SMALL_STATE:
                save()
            return states.steps()

        try:
            while self.step < self.config.steps:
                self._one_step()
                if self.config.save_every and self.step % self.config.save_every == 0:
                    save()
                on_step(self._report(keep))
        except StopTraining:
            pass
        finally:
            save()
        return self.losses

    def _report(self, keep: Callable[[], list[int]]) -> StepReport:
        return StepReport(
            step=self.step,
            steps=self.config.steps,
            losses=self.losses,
            learner=self.learner,
            backbone=self.backbone,
            read=self.optimizer.average_of,
            keep=keep,
        )

    def _bytes(self) -> int:
        """About those of a state: each parameter and its two moments."""
        return 3 * sum(p.numel() * p.element_size() for p in self.learner.parameters.values())

    def _one_step(self) -> None:
        before = self.generator.get_state()
        try:
            self._draw_and_descend()
        except BaseException:
            self.generator.set_state(before)  # a state saved now resumes with this very step
            raise

    def _draw_and_descend(self) -> None:
        names, values, scaled = self._averaged()
        # all that is wanted of the device is read at once: each reading waits until it is done
        *numbers, finite = torch.cat([values, self.scale.finite(scaled).to(values)]).tolist()
        told = dict(zip(names, numbers, strict=True))
        self._check(told)
        gradients = self.scale.unscaled(scaled, bool(finite))
        if gradients is not None:
            self._descend(clipped(gradients, self.descent.clip_norm))
        for name, value in told.items():
            self.losses.setdefault(name, []).append(value)
        self.step += 1

    def _averaged(self) -> tuple[list[str], Tensor, list[Tensor]]:
        """Names and values of a step's loss terms, and their scaled gradients, over its batches and
        processes."""
        rows: list[Tensor] = []
        gradients: list[Tensor] = []
        for number in range(self.descent.batches):
            batch = self.draw(self.step * self.descent.batches + number, self.generator)
            if isinstance(batch, Batch):
                batch = batch.to(self.backbone.device)
            values = []
            parts = parts_of(batch, self.config.micro_batch)
            alone = len(parts) * self.descent.batches == 1
            for part, share in parts:
                terms, *new = self._differentiated(part, share)
                if self._replayed.overwrites and not alone:
                    terms, new = terms.clone(), [g.clone() for g in new]
                values.append(terms)
                _add(gradients, new)
            rows.append(values[0] if len(values) == 1 else torch.stack(values).sum(dim=0))
        if self.descent.batches > 1:
            gradients = [g / self.descent.batches for g in gradients]
        means = torch.stack(rows).mean(dim=0)
        averages, *gradients = self.descent.processes.mean([means, *gradients])
        return self._names, averages, gradients

    def _differentiated(self, batch: Any, share: float) -> list[Tensor]:
        """The loss terms of a batch, (n,), and their scaled gradients, times its share of a larger
        one."""
        number = partial(torch.full, (), device=self.backbone.device, dtype=torch.float32)
        return self._replayed(StepInputs(batch, number(share), number(self.scale.value)))

    def _compute(self, inputs: StepInputs) -> list[Tensor]:
        terms = self.learner.loss(self.backbone, inputs.batch)
        # the text encoder, and what is learned beside it, may lie on another device
        terms = {name: term.to(self.backbone.device) for name, term in terms.items()}
        total = torch.stack(list(terms.values())).sum()
        gradients = _gradients(total * (inputs.scale * inputs.share), self.learner.parameters)
        self._names = ["loss", *terms]
        values = torch.stack([total, *terms.values()]).detach() * inputs.share
        return [values, *gradients]

    def _descend(self, gradients: list[Tensor]) -> None:
        rate = self.config.learning_rate * self.descent.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group[SHARE]
        for parameter, gradient in zip(self.learner.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _check(self, values: dict[str, float]) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingError(
                f"The {wrong[0]} turned NaN at step {self.step + 1}; the steps before it are kept. "
                f"Lower learning_rate (it is {self.config.learning_rate:g}) or set precision to "
                f"fp32 (it computes in {self.backbone.compute_dtype})."
            )

    def _is_sound(self) -> bool:
        return all(map(is_finite, self.learner.parameters.values()))

    def state(self) -> TrainState:
        """A copy of everything that changes from step to step."""
        named = self.learner.parameters
        return TrainState(
            step=self.step,
            parameters={name: _kept(p) for name, p in named.items()},
            moments={
                name: {key: _kept(value) for key, value in self.optimizer.state[p].items()}
                for name, p in named.items()
                if p in self.optimizer.state
            },
            generator=self.generator.get_state(),
            loss_scale=self.scale.value,
            losses={name: list(values) for name, values in self.losses.items()},
        )

    def check(self, state: TrainState) -> None:
        """Refuse a state that cannot be of this training. Raises TrainingError."""
        named = self.learner.parameters
        shapes = {name: tuple(p.shape) for name, p in named.items()}
        moments = [(name, m) for name, all_ in state.moments.items() for m in all_.values()]
        wrong = (
            {name: tuple(p.shape) for name, p in state.parameters.items()} != shapes
            or not all(p.is_floating_point() and is_finite(p) for p in state.parameters.values())
            or any(m.ndim and tuple(m.shape) != shapes.get(name) for name, m in moments)
            or not state.moments.keys() <= named.keys()
            or any(len(values) != state.step for values in state.losses.values())
            or not (math.isfinite(state.loss_scale) and state.loss_scale > 0)
        )
        try:
            Generator().set_state(state.generator)
        except (RuntimeError, TypeError):
            wrong = True
        if wrong:
            raise TrainingError("it does not fit this training.")

    def restore(self, state: TrainState) -> None:
        """Go on from a state; the parameters keep their identity."""
        named = self.learner.parameters
        with torch.no_grad():
            for name, parameter in named.items():
                parameter.copy_(state.parameters[name])
        for name, moments in state.moments.items():
            self.optimizer.restore(named[name], moments)
        self.generator.set_state(state.generator)
        self.scale.value = state.loss_scale
        self.losses = {name: list(values) for name, values in state.losses.items()}
        self.step = state.step


class LossScale:
    """Keeps small gradients above fp16's smallest number; does nothing for other types.

    Starts high and halves when a gradient overflows; that step leaves the parameters as they are.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._scales = dtype == torch.float16
        self.value = 2.0**14 if self._scales else 1.0

    def finite(self, scaled: list[Tensor]) -> Tensor:
        """Whether no gradient overflowed, (1,), where the first of them is."""
        if not self._scales:
            return torch.ones(1, device=scaled[0].device)
        each = [gradient.isfinite().all().to(scaled[0].device) for gradient in scaled]
        return torch.stack(each).all()[None]

    def unscaled(self, scaled: list[Tensor], finite: bool) -> list[Tensor] | None:
        """Gradients of the loss from those of loss * value, or None when they overflowed.

        Raises TrainingError when they do so without being scaled.
        """
        if not self._scales:
            return scaled
        if finite:
            return [g / self.value for g in scaled]
        if self.value == 1.0:
            raise TrainingError(
                "The gradients are too large for fp16; the steps before are kept. Set precision to "
                "bf16 or fp32."
            )
        self.value /= 2
        return None


def _gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """Gradients of a loss, zeros for what a batch has left unused, such as a background word
    without background. Raises TrainingError when it has left all of them so."""
    leaves = list(parameters.values())
    found: list[Tensor | None] = []
    if loss.requires_grad:
        found = list(torch.autograd.grad(loss, leaves, allow_unused=True))
    if all(gradient is None for gradient in found):
        raise TrainingError(
            "No gradient reaches what is to be learned: something in this MODEL or CLIP computes "
            "without a backward pass, such as an attention (SageAttention and others) that another "
            "pack has put in the place of ComfyUI's. Take it out for the training."
        )
    pairs = zip(found, leaves, strict=True)
    return [torch.zeros_like(leaf) if grad is None else grad for grad, leaf in pairs]


def _add(sums: list[Tensor], new: list[Tensor]) -> None:
    """Add each tensor to its sum, one after another: all at once would need a third set of them."""
    if not sums:
        sums += new
        return
    for n, sum_ in enumerate(sums):
        sums[n] = sum_ + new[n]


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
