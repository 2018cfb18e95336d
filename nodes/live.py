"""What browsers get to see of trainings, under way and ended: bookkeeping, without a server.

The training runs in one thread and the routes in another. Histories of losses only grow, so a
reader takes as many values as there are steps.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock
from typing import Any

MOST_POINTS = 600
MOST_PREVIEWS = 64
MOST_RUNS = 16
MOST_LETTERS = 2000
"""Of a failure's sentence: the host's own may hold a whole listing."""


Previews = Mapping[int, Sequence[bytes]]
Note = tuple[str, Mapping[str, int]] | None


class Stage(str, Enum):
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    KEPT = "kept"  # an earlier step of it, as the user wished
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass
class LiveRun:
    """One training of one node in one queued prompt.

    node: execution id, such as "12:7" for a node in a subgraph
    workflow: id of the workflow that the browser queued, "" when it came without one
    rate: steps a second; left: seconds
    note: what is done before the first step, by the key of a text of the browser and the values in
        it; warning: what the user may not have meant; error: why it failed
    prompts: what the previews show, one each; previews: encoded JPEGs by step, in that order
    earlier_previews: of the run before with the same settings; kept as far as this one resumes it
    saved: steps whose training states are kept
    wanted: the step whose concept is asked for, instead of the last one
    """

    prompt: str
    node: str
    workflow: str = ""
    steps: int = 0
    resumable: bool = True
    settings: str = ""
    stage: Stage = Stage.RUNNING
    step: int = 0
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    rate: float | None = None
    left: float | None = None
    note: Note = None
    warning: str = ""
    error: str = ""
    prompts: Sequence[str] = ()
    previews: Previews = field(default_factory=dict)
    earlier_previews: Previews = field(default_factory=dict)
    saved: Sequence[int] = ()
    wanted: int | None = None
    stop_wanted: bool = False
    _told: int | None = None

    def record(
        self,
        step: int,
        losses: Mapping[str, Sequence[float]],
        rate: float | None = None,
        left: float | None = None,
    ) -> None:
        """Take note of a step; `losses` is the history of every term and may go on growing."""
        self._go_on_after(step - 1)
        self.losses, self.step, self.rate, self.left = losses, step, rate, left

    def record_done(self, step: int, losses: Mapping[str, Sequence[float]]) -> None:
        """Take note of a training that had no step left to do."""
        self._go_on_after(step)
        self.losses, self.step = losses, step

    def _go_on_after(self, step: int) -> None:
        if self._told is not None:
            return
        self._told = step
        earlier = self.earlier_previews.items()
        last = step if self.wanted is None else self.steps
        self.previews = {s: p for s, p in earlier if s <= last}

    def fail(self, error: BaseException) -> None:
        self.stage = Stage.FAILED
        self.error = (str(error) or type(error).__name__)[:MOST_LETTERS]

    def add_preview(self, step: int, jpegs: Sequence[bytes]) -> None:
        """Keep the previews of a step; of too many steps, every second one."""
        previews = {**self.previews, step: jpegs}
        if len(previews) > MOST_PREVIEWS:
            previews = {s: p for n, (s, p) in enumerate(previews.items()) if n % 2 or s == step}
        self.previews = previews

    def changes(self) -> dict[str, Any]:
        """All but the losses that were told before; `start` counts the steps before them."""
        start = self._told or 0
        if self._told is not None:
            self._told = self.step
        losses = {name: _short(values[start : self.step]) for name, values in self.losses.items()}
        return self._status() | {"start": start, "stride": 1, "losses": losses}

    def history(self) -> dict[str, Any]:
        """The whole curve, each value the mean of `stride` steps."""
        stride = max(1, -(-self.step // MOST_POINTS))
        losses = {
            name: _short(means(values[: self.step], stride)) for name, values in self.losses.items()
        }
        return self._status() | {"start": 0, "stride": stride, "losses": losses}

    def _status(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "node": self.node,
            "workflow": self.workflow,
            "stage": self.stage.value,
            "step": self.step,
            "steps": self.steps,
            "rate": self.rate,
            "left": self.left,
            "resumable": self.resumable,
            "note": self.note and {"key": self.note[0], "values": self.note[1]},
            "warning": self.warning,
            "error": self.error,
            "prompts": list(self.prompts),
            "previews": list(self.previews),
            "saved": list(self.saved),
        }


class LiveRuns:
    """The last runs, what was asked of them, and how often a stopped one was to go on."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: dict[tuple[str, str], LiveRun] = {}
        self._settings: dict[str, str] = {}
        self._continued: dict[tuple[str, str], int] = {}
        self._wanted: dict[tuple[str, str], int] = {}

    def begin(self, run: LiveRun) -> LiveRun:
        """Keep a new run, forget the oldest ones, and return it."""
        with self._lock:
            run.settings = self._settings.get(run.node, "")
            run.wanted = self._wanted.get((run.node, run.settings))
            before = self._before(run)
            if before is not None:
                run.earlier_previews, run.saved = before.previews, before.saved
            if before is not None and run.wanted is not None:
                run.prompts, run.previews = before.prompts, before.previews
            key = run.prompt, run.node
            self._runs.pop(key, None)
            self._runs[key] = run
            for old in list(self._runs)[:-MOST_RUNS]:
                del self._runs[old]
        return run

    def end(self, run: LiveRun) -> None:
        """Say how a run ended that did not fail.

        Where one was stopped is remembered: when memory is short, the host's cache loses its
        concept, and the node, asked again, must not learn on before the user says so.
        """
        run.stage = _end_of(run)
        if run.stage is Stage.STOPPED and run.settings:
            with self._lock:
                self._wanted[run.node, run.settings] = run.step

    def _before(self, run: LiveRun) -> LiveRun | None:
        """The latest run of the same node, if it had the same settings."""
        for old in reversed(self._runs.values()):
            if (old.workflow, old.node) == (run.workflow, run.node):
                return old if old.settings == run.settings else None
        return None

    def find(self, prompt: str, node: str) -> LiveRun | None:
        with self._lock:
            return self._runs.get((prompt, node))

    def of_workflow(self, workflow: str) -> list[LiveRun]:
        """The latest run of each node of a workflow."""
        with self._lock:
            runs = {run.node: run for run in self._runs.values() if run.workflow == workflow}
        return list(runs.values())

    def stop(self, prompt: str, node: str) -> bool:
        """Ask a run to end with its next step and keep what it has; False when none is under way.

        The workflow then goes on with the concept learned so far.
        """
        run = self.find(prompt, node)
        if run is None or run.stage is not Stage.RUNNING:
            return False
        run.stop_wanted = True
        return True

    def go_on(self, prompt: str, node: str) -> bool:
        """Let the host ask a stopped run's node again, whose concept it would take from its cache.

        False when there is no such run.
        """
        run = self.find(prompt, node)
        if run is None or run.stage not in (Stage.STOPPED, Stage.KEPT) or not run.resumable:
            return False
        self._ask_again(run, None)
        return True

    def keep(self, prompt: str, node: str, step: int) -> bool:
        """Let the host ask an ended run's node again, for the concept of one of its saved steps.

        False when there is no such run, or its state of that step is gone.
        """
        run = self.find(prompt, node)
        if run is None or run.stage is Stage.RUNNING or step not in run.saved or not run.resumable:
            return False
        self._ask_again(run, step if step < run.steps else None)
        return True

    def _ask_again(self, run: LiveRun, step: int | None) -> None:
        key = run.node, run.settings
        with self._lock:
            self._continued[key] = self._continued.get(key, 0) + 1
            if step is None:
                self._wanted.pop(key, None)
            else:
                self._wanted[key] = step

    def times_continued(self, node: str, widgets: Mapping[str, Any]) -> int:
        """Part of the fingerprint of a node with these widgets; `go_on` and `keep` raise it."""
        with self._lock:
            settings = self._settings[node] = json.dumps(widgets, sort_keys=True, default=str)
            return self._continued.get((node, settings), 0)


def _end_of(run: LiveRun) -> Stage:
    if run.step >= run.steps:
        return Stage.FINISHED
    return Stage.KEPT if run.step == run.wanted else Stage.STOPPED


LIVE = LiveRuns()
"""The runs of this process."""


def means(values: Sequence[float], stride: int) -> list[float]:
    """Means of each `stride` values in turn, the last one of what is left."""
    chunks = (values[at : at + stride] for at in range(0, len(values), stride))
    return [sum(chunk) / len(chunk) for chunk in chunks]


def _short(values: Sequence[float]) -> list[float]:
    """Six digits are enough to draw."""
    return [float(f"{value:.6g}") for value in values]
