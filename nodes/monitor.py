"""What a user sees while something is learned: losses, rate, previews; cancel and stop work."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..host.browsers import tell_browsers, workflow_id
from ..host.progress import (
    Cancelled,
    NodeProgress,
    current_prompt,
    jpeg,
    stop_if_cancelled,
)
from ..training.config import LoopConfig
from ..training.loop import StepReport, StopTraining
from .live import LIVE, LiveRun, Stage

Config = TypeVar("Config", bound=LoopConfig)
DrawPreview = Callable[[StepReport, str], Tensor]
"""The picture (1, H, W, 3) in 0..1 that a prompt gives after a step."""

LIVE_EVENT = "personalize.live"
TELL_SECONDS = 0.125  # with those at start and end, fewer than ten messages a second


class Announcer:
    """Tells browsers the news of a run, a few times a second at most unless they must go out."""

    def __init__(self, run: LiveRun) -> None:
        self.run = run
        self._last = 0.0

    def __call__(self, now: bool = False) -> None:
        if now or time.monotonic() - self._last >= TELL_SECONDS:
            self._last = time.monotonic()
            tell_browsers(LIVE_EVENT, self.run.changes())


@contextmanager
def announced(run: LiveRun) -> Iterator[Announcer]:
    """Keep a run for the browsers, and note how it ends."""
    announce = Announcer(LIVE.begin(run))
    announce(now=True)
    try:
        yield announce
        LIVE.end(run)
    except Cancelled:
        run.stage = Stage.CANCELLED
        raise
    except BaseException as error:
        run.fail(error)
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

    def __init__(self, node: str | None, preview_every: int, announce: Announcer) -> None:
        self._every = preview_every
        self._announce, self._run = announce, announce.run
        self._progress = NodeProgress(self._run.steps, node)
        self._pace = Pace()
        self._draw: DrawPreview | None = None

    def begin(self, config: Config, prompts: Sequence[str], draw: DrawPreview) -> Config:
        """Say what is learned and previewed; return the config, with fewer steps when the user
        asks for the concept of an earlier one."""
        run = self._run
        run.steps, run.prompts, self._draw = config.steps, tuple(prompts), draw
        self._progress = NodeProgress(config.steps, run.node or None)
        run.note = "encoding", {}
        self._announce(now=True)
        stop_if_cancelled()
        return config if run.wanted is None else replace(config, steps=run.wanted)

    def __call__(self, report: StepReport) -> None:
        last = report.step == report.steps
        pace = self._pace.after(report.step, report.steps)
        self._progress.update(report.step)
        self._run.note = None
        self._run.record(report.step, report.losses, *(pace or ()))
        due = self._every and (report.step % self._every == 0 or last)
        if due and not self._run.stop_wanted:
            self._preview(report)
        self._announce()
        stop_if_cancelled()
        if self._run.stop_wanted and not last:
            raise StopTraining

    def warn(self, text: str) -> None:
        """Show on the node and in the log what the user may not have meant."""
        logging.warning("%s", text)
        self._run.warning = text
        self._announce(now=True)
        stop_if_cancelled()

    def tell_prior(self, made: int, count: int) -> None:
        """Between pictures of the class; raise the host's interrupt after a cancel."""
        self._run.note = "making_prior", {"made": made, "count": count}
        self._announce()
        stop_if_cancelled()

    def finish(self, steps: int, losses: dict[str, list[float]]) -> None:
        """Say so when there was no step to do; `losses` are those of an earlier run."""
        self._run.note = None
        if self._pace.begun:
            return
        self._run.record_done(steps, losses)
        self._run.saved = self._run.saved or [steps]
        self._progress.update(steps)

    @property
    def shown(self) -> dict[str, list[str]]:
        """Output of the node for the browser: where its run is found, also when the host's cache
        answers for the node."""
        return {"personalize_live": [self._run.prompt, self._run.node]}

    def _preview(self, report: StepReport) -> None:
        """Show what the prompts give now, and keep the state that gives it."""
        with self._pace.paused():
            if self._draw is not None and self._run.prompts:
                with report.backbone.paused():
                    pictures = [self._draw(report, prompt) for prompt in self._run.prompts]
                self._run.add_preview(report.step, [jpeg(picture[0]) for picture in pictures])
            self._run.saved = report.keep()


@contextmanager
def watched(hidden: Any, values: dict[str, Any]) -> Iterator[Monitor]:
    """The monitor of a Train node, and what browsers see of it from start to end.

    All that can go wrong in the node belongs inside: the panel of the node then says it.
    hidden: the node's hidden inputs; values: its widgets
    """
    node = hidden.unique_id
    resumable = values.get("resume", True)
    run = LiveRun(
        prompt=current_prompt(),
        node=node or "",
        workflow=workflow_id(hidden.extra_pnginfo),
        steps=values.get("steps", 0),
        resumable=resumable,
    )
    with announced(run) as announce:
        yield Monitor(node, values.get("preview_every", 0), announce)


def plottable(losses: list[float]) -> dict[str, list[Tensor]]:
    """LOSS_MAP for the stock Plot Loss Graph, which divides by max - min: never let it be 0."""
    values = list(losses) if len(losses) > 1 else list(losses) * 2
    if values and max(values) == min(values):
        values[-1] = values[-1] * (1 + 1e-6) + 1e-9
    return {"loss": [torch.tensor(v, dtype=torch.float64) for v in values]}
