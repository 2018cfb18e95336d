"""One training loop for every part: seeded, resumable, bounded by steps or by minutes."""

import copy
import csv
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .muon import Muon

PAUSE = 20.0  # seconds between two steps that count at most
Batch = tuple[torch.Tensor, ...]
Batches = Callable[[int], Iterator[Batch]]
Loss = Callable[[nn.Module, Batch], tuple[torch.Tensor, dict[str, float]]]
Check = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class Plan:
    """How long and how to train. With minutes, the schedule follows the time spent so far.

    warmup: steps in which the rate rises; hold: share of the plan in which it then stays level
    clip_norm: longest gradient; ema: decay of the running average, less in the first steps
    muon: Muon for the inner matrices, AdamW for vectors and for parameters whose names begin with
        one of `outer`
    """

    steps: int
    minutes: float | None = None
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema: float = 0.999
    log_every: int = 50
    save_minutes: float = 3.0
    hold: float = 0.0
    muon: bool = False
    outer: tuple[str, ...] = ()


def optimizer(module: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW, or Muon for the inner matrices; never weight decay on vectors."""
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    if plan.muon:
        inner = [p for n, p in trained.items() if p.ndim > 1 and not n.startswith(plan.outer)]
        outer = [p for n, p in trained.items() if p.ndim <= 1 or n.startswith(plan.outer)]
        return Muon(inner, outer, plan.learning_rate, plan.weight_decay, plan.betas)
    groups = [
        {"params": [p for p in trained.values() if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in trained.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, plan.learning_rate, plan.betas, fused=True)


class Run:
    """A module in training: optimizer, running average, log and saved state."""

    def __init__(self, path: Path, module: nn.Module, plan: Plan, device: torch.device) -> None:
        self.path, self.module, self.plan, self.device = path, module.to(device), plan, device
        path.mkdir(parents=True, exist_ok=True)
        self.optimizer = optimizer(module, plan)
        self.ema = copy.deepcopy(module).eval().requires_grad_(False)
        self.step, self.elapsed, self.stopped = 0, 0.0, False
        if (path / "state.pt").exists():
            self.load()

    def load(self) -> None:
        state = torch.load(self.path / "state.pt", map_location=self.device, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]

    def save(self) -> None:
        state = {
            "module": self.module.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        torch.save(state, self.path / "state.part")
        (self.path / "state.part").replace(self.path / "state.pt")

    def progress(self) -> float:
        """0 at the start, 1 at the end of the plan."""
        if self.plan.minutes is not None:
            return min(1.0, self.elapsed / (60 * self.plan.minutes))
        return min(1.0, self.step / self.plan.steps)

    def rate(self) -> float:
        """Warm-up, a level stretch (`hold` of the plan), then a cosine to 2 %."""
        t = max(0.0, self.progress() - self.plan.hold) / (1 - self.plan.hold)
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * t))
        return self.plan.learning_rate * cosine * min(1.0, (self.step + 1) / self.plan.warmup)

    def train(
        self, batches: Batches, loss: Loss, check: Check | None = None, check_every: int = 1000
    ) -> nn.Module:
        """Train to the end of the plan and return the running average of the module.

        batches(step) yields batches from that step on, the same ones after a resume; loss returns
        the loss and figures to log; check returns figures of the averaged module.
        """
        before = signal.signal(signal.SIGTERM, self.stop)
        try:
            self._descend(batches, loss, check, check_every)
        finally:
            signal.signal(signal.SIGTERM, before)
        self.save()
        if check:
            self.log("check", check(self.ema))
        return self.ema

    def _descend(
        self, batches: Batches, loss: Loss, check: Check | None = None, check_every: int = 1000
    ) -> None:
        saved, start = time.monotonic(), time.monotonic()
        stream = batches(self.step)
        sums: dict[str, float] = {}
        count = 0
        self.module.train()
        while self.progress() < 1.0 and not self.stopped:
            torch.manual_seed(self.step + 1)
            value, figures = loss(self.module, next(stream))
            self.update(value)
            now = time.monotonic()
            # A suspended process does not use its plan up.
            self.elapsed += min(now - start, PAUSE)
            start = now
            for key, number in {"loss": float(value.detach()), **figures}.items():
                sums[key] = sums.get(key, 0.0) + number
            count += 1
            if self.step % self.plan.log_every == 0:
                self.log("train", {k: v / count for k, v in sums.items()})
                sums, count = {}, 0
            if check and self.step % check_every == 0:
                self.log("check", check(self.ema))
            if now - saved > 60 * self.plan.save_minutes:
                self.save()
                saved = now

    def stop(self, *_) -> None:
        """End after the current step, with the state saved."""
        self.stopped = True

    def update(self, value: torch.Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), self.plan.clip_norm)
        self.optimizer.step()
        self.step += 1
        decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            pairs = [
                (e, p) for e, p in zip(self.ema.parameters(), self.module.parameters(), strict=True)
            ]
            torch._foreach_lerp_([e for e, _ in pairs], [p.detach() for _, p in pairs], 1 - decay)
            for e, p in zip(self.ema.buffers(), self.module.buffers(), strict=True):
                e.copy_(p)

    def log(self, kind: str, figures: dict[str, float]) -> None:
        row = [kind, self.step, round(self.elapsed, 1), f"{self.rate():.3g}"]
        row += [f"{key}={value:.5g}" for key, value in figures.items()]
        with open(self.path / "log.csv", "a", newline="") as f:
            csv.writer(f).writerow(row)
        print(*row, flush=True)
