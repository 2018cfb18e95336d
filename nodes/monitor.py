"""What a user sees while something is learned: losses, rate, previews; cancel and stop work."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..host.browsers import tell_browsers
from ..host.progress import (
    Cancelled,
    NodeProgress,
    current_prompt,
    jpeg,
    side_by_side,
    stop_if_cancelled,
)
from ..training.loop import StepReport, StopTraining
from .live import LIVE, LiveRun, Stage

SMOOTHING = 20
EVENT = "personalize.live"
TELL_SECONDS = 0.125  # with those at start and end, fewer than ten messages a second


class Announcer:
    """Tells browsers the news of a run, a few times a second at most unless they must go out."""

    def __init__(self, run: LiveRun) -> None:
        self.run = run
        self._last = 0.0

    def __call__(self, now: bool = False) -> None:
        if now or time.monotonic() - self._last >= TELL_SECONDS:
            self._last = time.monotonic()
            tell_browsers(EVENT, self.run.news())


@contextmanager
def announced(run: LiveRun) -> Iterator[Announcer]:
    """Keep a run for the browsers, and note how it ends."""
    announce = Announcer(LIVE.begin(run))
    announce(now=True)
    try:
        yield announce
        run.stage = Stage.FINISHED if run.step >= run.steps else Stage.STOPPED
    except Cancelled:
        run.stage = Stage.CANCELLED
        raise
    except BaseException:
        run.stage = Stage.FAILED
        raise
    finally:
        announce(now=True)


def times_continued(hidden: Any, lists: dict[str, Any]) -> int:
    """Fingerprint of a Train node: grows when its stopped training is to go on; else the host's
    cache answers."""
    widgets = {name: value[0] for name, value in lists.items()}
    return LIVE.times_continued(hidden.unique_id or "", widgets)


class Pace:
    """Steps a second of training alone, and the seconds that are left."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    @property
    def begun(self) -> bool:
        return self._first is not None

    def after(self, step: int, steps: int) -> tuple[float, float] | None:
        """Rate and time left after a step; None after the first one."""
        now = time.monotonic()
        if self._first is None:
            self._first = step, now
            return None
        first, since = self._first
        rate = max((step - first) / max(now - since, 1e-9), 1e-9)
        return rate, (steps - step) / rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        started = time.monotonic()
        yield
        if self._first is not None:
            step, since = self._first
            self._first = step, since + time.monotonic() - started


class Monitor:
    """Callback of the training loop. Raises the host's interrupt within one step of a cancel, and
    StopTraining within one step of a stop."""

    def __init__(
        self,
        progress: NodeProgress,
        preview_every: int,
        preview: Callable[[StepReport], Tensor],
        announce: Announcer,
    ) -> None:
        self._progress, self._every, self._preview = progress, preview_every, preview
        self._announce, self._run = announce, announce.run
        self._pace = Pace()

    def __call__(self, report: StepReport) -> None:
        first, last = not self._pace.begun, report.step == report.steps
        pace = self._pace.after(report.step, report.steps)
        self._progress.update(report.step)
        self._progress.show_text(_line(report, pace), now=first or last)
        self._run.record(report.step, report.losses, *(pace or ()))
        due = self._every and (report.step % self._every == 0 or last)
        if due and not self._run.stop_wanted:
            self._show_preview(report)
        self._announce()
        stop_if_cancelled()
        if self._run.stop_wanted and not last:
            self._progress.show_text(f"stopped at step {report.step} of {report.steps}", now=True)
            raise StopTraining

    def tell(self, text: str) -> None:
        """Show what happens before the first step; raise the host's interrupt after a cancel."""
        self._progress.show_text(text, now=True)
        stop_if_cancelled()

    def warn(self, text: str) -> None:
        """Show on the node and in the log what the user may not have meant."""
        logging.warning("%s", text)
        self.tell(text)

    def tell_prior(self, made: int, count: int) -> None:
        """As `tell`, between pictures of the class."""
        self._progress.show_text(f"making pictures of the class: {made} of {count}")
        stop_if_cancelled()

    def finish(self, losses: dict[str, list[float]]) -> None:
        """Say so when there was no step to do; `losses` are those of an earlier run."""
        if self._pace.begun:
            return
        steps = self._run.steps
        self._run.record(steps, losses)
        self._progress.update(steps)
        self._progress.show_text(f"learned before, in {steps} steps", now=True)

    @property
    def shown(self) -> dict[str, list[str]]:
        """Output of the node for the browser: where its run is found, also when the host's cache
        answers for the node."""
        return {"personalize_live": [self._run.prompt, self._run.node]}

    def _show_preview(self, report: StepReport) -> None:
        with self._pace.paused():
            with report.backbone.paused():
                pictures = self._preview(report)
            self._progress.show_picture(report.step, pictures)
            self._run.add_preview(report.step, jpeg(side_by_side(pictures)))


@contextmanager
def watched(
    hidden: Any, steps: int, values: dict[str, Any], preview: Callable[[StepReport], Tensor]
) -> Iterator[Monitor]:
    """The monitor of a Train node, and what browsers see of it from start to end.

    hidden: the node's hidden inputs; values: its widgets
    """
    node = hidden.unique_id
    workflow = (hidden.extra_pnginfo or {}).get("workflow") or {}
    resumable = values.get("resume", True)
    run = LiveRun(current_prompt(), node or "", str(workflow.get("id", "")), steps, resumable)
    with announced(run) as announce:
        every = values.get("preview_every", 0)
        yield Monitor(NodeProgress(steps, node), every, preview, announce)


def _line(report: StepReport, pace: tuple[float, float] | None) -> str:
    line = f"step {report.step}/{report.steps}  {shown_losses(report.losses)}"
    if pace is None:
        return line + (f"  resumed at step {report.step - 1}" if report.step > 1 else "")
    rate, left = pace
    speed = f"{rate:.2f} steps/s" if rate >= 1 else f"{1 / rate:.1f} s/step"
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
