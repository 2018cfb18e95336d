"""One workflow on the bench's server, and what it took: never an exception, always an answer."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...cli.client import ClientError, Message, Run, RunError, Workflow
from ...cli.comfyui import wants_cpu
from ...tools.server.server import ComfyServer, ServerError

PATIENCE = {"gpu": 120.0, "cpu": 900.0}  # seconds for one workflow, at most
LEAST = 10.0  # where time is up
NONCES = itertools.count(1)
Tensors = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """error: a sentence, empty where all went well; step: milliseconds; peak: GiB; file: what was
    learned; digest: of what was drawn afterwards; interrupted: by the bench, not by a failure;
    around: seconds from queueing to the first step told of, and from the last one to the end."""

    error: str = ""
    seconds: float = 0.0
    step: float | None = None
    peak: float | None = None
    file: Path | None = None
    digest: str = ""
    interrupted: bool = False
    around: tuple[float, float] | None = None

    @property
    def ok(self) -> bool:
        return not self.error


class StepClock:
    """Seconds between the first and the last step that the node `train` told of."""

    def __init__(self) -> None:
        self.told: dict[int, float] = {}

    def __call__(self, message: Message) -> None:
        if message.kind == "progress" and message.data.get("node") == "train":
            self.told.setdefault(int(message.data["value"]), time.perf_counter())

    @property
    def step(self) -> float | None:
        """Milliseconds of a step, None when fewer than two were seen; of more than four, those of
        the second half, when libraries and graphs are ready."""
        seen = sorted(value for value in self.told if value > 0)
        if len(seen) < 2:
            return None
        first, last = seen[len(seen) // 2 if len(seen) > 4 else 0], seen[-1]
        return 1000 * (self.told[last] - self.told[first]) / (last - first)

    def around(self, began: float, ended: float) -> tuple[float, float] | None:
        """Seconds before the first step that was told of, and after the last one."""
        seen = [told for value, told in self.told.items() if value > 0]
        return (min(seen) - began, ended - max(seen)) if seen else None


def run(
    server: ComfyServer,
    workflow: Workflow,
    on_message: Callable[[Message], None] = lambda message: None,
    *,
    left: float = float("inf"),
) -> Outcome:
    """Run a workflow. A server that hangs or died is started again for the next one.

    left: seconds of the bench, which neither of it may take longer than
    """
    clock, began = StepClock(), time.perf_counter()
    patience = max(LEAST, min(PATIENCE["cpu" if wants_cpu() else "gpu"], left))

    def listen(message: Message) -> None:
        clock(message)
        on_message(message)

    try:
        _peak(server)
        done = server.client.run(workflow, listen, patience)
        ended = time.perf_counter()
        told = _read(done, ended - began, clock.step, _peak(server))
        return replace(told, around=clock.around(began, ended))
    except RunError as error:
        return Outcome(_sentence(error), interrupted=error.run.interrupted)
    except (TimeoutError, OSError, ClientError) as error:
        return Outcome(_sentence(error) + _revive(server, patience))


def _read(done: Run, seconds: float, step: float | None, peak: float | None) -> Outcome:
    saved = done.outputs.get("save", {})
    files = [*saved.get("concepts", []), *saved.get("encoders", [])]
    drawn = done.outputs.get("draw", {})
    wrong = "" if all(drawn.get("finite", [True])) else "What was drawn is not finite."
    digest = (drawn.get("digest") or [""])[0]
    return Outcome(wrong, seconds, step, peak, Path(files[0]) if files else None, digest)


def _peak(server: ComfyServer) -> float | None:
    return json.loads(server.client.get("/bench/memory"))["peak"]


def _revive(server: ComfyServer, seconds: float) -> str:
    """Start the server again after a workflow that it did not survive."""
    died = "" if server.running else " The server ended."
    try:
        server.kill()
        server.start(seconds)
    except ServerError as error:
        return f"{died} It did not start again: {_sentence(error)}"
    return died


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def difference(one: Path, other: Path) -> str:
    """How two files of what was learned differ: `equal`, or the largest difference."""
    from safetensors.torch import load_file

    a, b = load_file(one), load_file(other)
    if a.keys() != b.keys():
        return "other tensors"
    apart = max((_apart(a[key], b[key]) for key in a), default=0.0)
    return "equal" if apart == 0 else f"{apart:.1e} apart"


def _apart(a: Any, b: Any) -> float:
    return (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
