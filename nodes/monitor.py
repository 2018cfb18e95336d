"""What a user sees while a concept is being learned: loss, rate, preview, and that cancel works."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..host.progress import NodeProgress, stop_if_cancelled
from ..training.loop import StepReport

SMOOTHING = 20


class Monitor:
    """Callback of the training loop. Raises the host's interrupt within one step of a cancel."""

    def __init__(
        self,
        progress: NodeProgress,
        preview_every: int,
        preview: Callable[[StepReport], Tensor],
    ) -> None:
        self._progress, self._every, self._preview = progress, preview_every, preview
        self._first: tuple[int, float] | None = None

    def __call__(self, report: StepReport) -> None:
        self._progress.update(report.step)
        first, last = self.idle, report.step == report.steps
        self._progress.show_text(self._line(report), now=first or last)
        if self._every and (report.step % self._every == 0 or last):
            self._show_preview(report)
        stop_if_cancelled()

    @property
    def idle(self) -> bool:
        """No step was reported yet."""
        return self._first is None

    def _show_preview(self, report: StepReport) -> None:
        started = time.monotonic()
        with report.backbone.paused():
            pictures = self._preview(report)
        self._progress.show_picture(report.step, pictures)
        if self._first is not None:  # the rate is about training alone
            step, since = self._first
            self._first = step, since + time.monotonic() - started

    def _line(self, report: StepReport) -> str:
        line = f"step {report.step}/{report.steps}  {shown_losses(report.losses)}"
        now = time.monotonic()
        if self._first is None:
            self._first = report.step, now
            resumed = report.step > 1
            return line + (f"  resumed at step {report.step - 1}" if resumed else "")
        step, since = self._first
        rate = (report.step - step) / max(now - since, 1e-9)
        left = (report.steps - report.step) / max(rate, 1e-9)
        speed = f"{rate:.2f} steps/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.1f} s/step"
        return f"{line}  {speed}  {_clock(left)} left"


def shown_losses(losses: dict[str, list[float]]) -> str:
    """The recent mean of the loss, and of its terms where there are several."""
    recent = {name: values[-SMOOTHING:] for name, values in losses.items()}
    means = {name: sum(values) / len(values) for name, values in recent.items()}
    line = f"loss {means.pop('loss'):.4f}"
    if len(means) < 2:
        return line
    return f"{line} ({', '.join(f'{name} {mean:.2g}' for name, mean in means.items())})"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def plottable(losses: list[float]) -> dict[str, list[Tensor]]:
    """LOSS_MAP for the stock Plot Loss Graph, which divides by max - min: never let it be 0."""
    values = list(losses) if len(losses) > 1 else list(losses) * 2
    if values and max(values) == min(values):
        values[-1] = values[-1] * (1 + 1e-6) + 1e-9
    return {"loss": [torch.tensor(v, dtype=torch.float64) for v in values]}
