"""The parts of the GPU bench, in the order of what matters most; each fills a table."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

from ...cli.client import Message
from ...cli.comfyui import ROOT, wants_cpu
from ...cli.workflows import ObjectInfo
from ...tools.server.server import START_SECONDS, ComfyServer, ServerError, ctrl_c
from . import workflows
from .models import CHECKPOINT, Size
from .report import Table
from .runs import LEAST, NONCES, Outcome, difference, run

PACKS = {"personalize": ROOT, "bench": ROOT / "bench" / "on_gpu" / "pack"}
FEW, MANY = 6, 10  # steps of a training that is only to work, and of one that is looked at
LEFT_OUT = "not reached in time"
REPLAY = "PERSONALIZE_REPLAY"  # as training/replay.py has it, which this process does not import
NOT_RUN = Outcome("there is none that ran through")
TOO_SHORT = "not tried: it ended before the cancel reached it"
COLUMNS = ("method", "result", "ms a step", "GiB", "s", "s before", "s after")


class Clock:
    """How much of the bench's time is left."""

    def __init__(self, seconds: float) -> None:
        self.began, self.seconds = time.monotonic(), seconds

    @property
    def used(self) -> float:
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        return self.seconds - self.used


@dataclass
class Bench:
    """What all parts share. kept: seconds that the parts after the servers' will need."""

    host: Path
    base: Path
    size: Size
    clock: Clock
    kept: float = 0.0
    more: tuple[str, ...] = ()  # arguments of every server
    steps: tuple[int, int] = (FEW, MANY)
    tables: list[Table] = field(default_factory=list)
    on_row: Callable[[], None] = lambda: None

    def table(self, title: str, columns: Sequence[str], note: str = "") -> Table:
        self.tables.append(Table(title, tuple(columns), note=note, on_row=lambda: self.on_row()))
        return self.tables[-1]

    @property
    def left(self) -> float:
        """Seconds for what comes now."""
        return self.clock.left - self.kept

    def in_time(self, seconds: float = 0.0) -> bool:
        return self.left > seconds

    def run(
        self,
        server: ComfyServer,
        workflow: workflows.Workflow,
        on_message: Callable[[Message], None] = lambda message: None,
    ) -> Outcome:
        return run(server, workflow, on_message, left=self.left)

    @contextmanager
    def server(self, table: Table, *arguments: str) -> Iterator[tuple[ComfyServer, ObjectInfo]]:
        """A server with these flags; the table tells when it does not start."""
        server = ComfyServer(
            self.host, self.base, {**PACKS, **self.size.packs}, [*arguments, *self.more]
        )
        try:
            try:
                server.start(max(LEAST, min(START_SECONDS, self.left)))
                info = server.client.object_info()
            except (ServerError, OSError) as error:
                table.add("server", " ".join(str(error).split())[-300:], failed=True)
                raise Skipped from error
            yield server, info
        finally:
            server.stop()


class Skipped(Exception):
    """The rest of a part cannot be done; a row says why."""


# --- on a server ------------------------------------------------------------------------------


def default_server(bench: Bench) -> None:
    """Every method with the host's defaults: once, again, cancelled and resumed; in other types."""
    table = bench.table("The host's defaults", COLUMNS)
    repeated = bench.table(
        "Repeated", ("method", "again", "models after it"),
        "The models: what they draw without the pack, against the same picture before all this.",
    )  # fmt: skip
    cancelled = bench.table(
        "Cancelled and resumed", ("method", "result"), "Against a training that ran through."
    )
    types = {name: bench.table(f"precision {name}", COLUMNS) for name in ("bf16", "fp32")}
    with bench.server(table) as (server, info):
        before = [bench.run(server, workflows.stock(bench.size, next(NONCES))) for _ in range(2)]
        firsts = each_method(bench, server, info, table, {"steps": bench.steps[1]})
        again(bench, server, info, repeated, firsts, before)
        resumed(bench, server, info, cancelled, firsts)
        segmented(bench, server, info, table)
        for precision, part in types.items():
            each_method(bench, server, info, part, {"precision": precision})


def again(
    bench: Bench,
    server: ComfyServer,
    info: ObjectInfo,
    table: Table,
    firsts: dict[str, Outcome],
    before: Sequence[Outcome],
) -> None:
    """The same trainings once more, with previews; and what the models draw then."""
    steps = bench.steps[1]
    for method, make in reached(bench, info, table):
        second = bench.run(server, make({"steps": steps, "preview_every": steps // 2}))
        after = bench.run(server, workflows.stock(bench.size, next(NONCES)))
        same = unchanged(before, after)
        told = compared(firsts.get(method, NOT_RUN), second)
        table.add(method, told, same, failed=not second.ok or same != "equal")


def segmented(bench: Bench, server: ComfyServer, info: ObjectInfo, table: Table) -> None:
    """What computes beside the trainers."""
    done = bench.run(server, workflows.segmented(info, bench.size, next(NONCES)))
    table.add("Segment Subject", *cells(done), failed=not done.ok)


def other_server(*arguments: str) -> Callable[[Bench], None]:
    """Every method once on a server with other flags."""

    def part(bench: Bench) -> None:
        table = bench.table(f"`{' '.join(arguments)}`", COLUMNS)
        if not bench.in_time(20):
            return
        with bench.server(table, *arguments) as (server, info):
            each_method(bench, server, info, table, {})

    return part


def replayed_server(bench: Bench) -> None:
    """Every method once with steps replayed as CUDA graphs, which only a GPU does."""
    with mock.patch.dict(os.environ, {REPLAY: "1"}):
        table = bench.table(f"{REPLAY}=1", COLUMNS)
        if bench.in_time(20):
            with bench.server(table) as (server, info):
                each_method(bench, server, info, table, {"steps": bench.steps[1]})


def each_method(
    bench: Bench, server: ComfyServer, info: ObjectInfo, table: Table, changes: dict[str, Any]
) -> dict[str, Outcome]:
    """Every method once; what became of each."""
    done: dict[str, Outcome] = {}
    for method, make in reached(bench, info, table):
        outcome = bench.run(server, make({"steps": bench.steps[0], **changes}))
        table.add(method, *cells(outcome), failed=not outcome.ok)
        done[method] = outcome
    return done


def reached(bench: Bench, info: ObjectInfo, table: Table) -> Iterator[tuple[str, Make]]:
    """The methods that there is time for; the others get their row."""
    for method, make in methods(info, bench.size):
        if bench.in_time():
            yield method, make
        else:
            table.add(method, LEFT_OUT, skipped=True)


Make = Callable[[dict[str, Any]], workflows.Workflow]


def methods(info: ObjectInfo, size: Size) -> Iterator[tuple[str, Make]]:
    """The name of every training and what makes its workflow, of changes to its inputs."""
    for trainer in workflows.trainers(info):
        name = info[trainer]["display_name"]
        if trainer == workflows.ELITE:
            yield (
                f"{name}, global",
                lambda c, t=trainer: workflows.training(
                    info, t, size, next(NONCES), {**c, "stage": "global"}
                ),
            )
            yield f"{name}, local", lambda c: workflows.local_stage(info, size, next(NONCES), c)
        else:
            yield name, lambda c, t=trainer: workflows.training(info, t, size, next(NONCES), c)


def resumed(
    bench: Bench, server: ComfyServer, info: ObjectInfo, table: Table, firsts: dict[str, Outcome]
) -> None:
    """Cancel each training at its first step, go on, and compare with the one that ran through."""

    def cancel(message: Message) -> None:
        if message.kind == "progress" and message.data.get("node") == "train":
            server.client.interrupt()

    # states of the trainings that ran through, which would be gone on with
    shutil.rmtree(bench.base / "output" / "personalize" / "training", ignore_errors=True)
    for method, make in reached(bench, info, table):
        settings = {"steps": bench.steps[1], "resume": True}
        stopped = bench.run(server, make(settings), cancel)
        told = stopped.error or TOO_SHORT
        if stopped.interrupted:
            rest = bench.run(server, make(settings))
            told = compared(firsts.get(method, NOT_RUN), rest)
        table.add(method, told, failed=told not in ("equal", TOO_SHORT))


def cells(outcome: Outcome) -> tuple[str, ...]:
    if not outcome.ok:
        return (outcome.error,)
    step = "-" if outcome.step is None else f"{outcome.step:.0f}"
    peak = "-" if outcome.peak is None else f"{outcome.peak:.2f}"
    around = ["-", "-"] if outcome.around is None else [f"{s:.1f}" for s in outcome.around]
    return "works", step, peak, f"{outcome.seconds:.1f}", *around


def compared(one: Outcome, other: Outcome) -> str:
    """Of what two trainings learned."""
    if not (one.ok and other.ok):
        return other.error or one.error
    if one.file is None or other.file is None:
        return "nothing was saved"
    return difference(one.file, other.file)


def unchanged(before: Sequence[Outcome], after: Outcome) -> str:
    """Do the user's models draw as they drew before?"""
    failed = [outcome.error for outcome in (*before, after) if not outcome.ok]
    if failed:
        return failed[0]
    if len({outcome.digest for outcome in before}) > 1:
        return "stock sampling does not repeat here"
    return "equal" if after.digest == before[0].digest else "they draw another picture"


# --- in processes of their own ----------------------------------------------------------------


def host_tests(arguments: str) -> Callable[[Bench], None]:
    """The tests that compute in the host, on the GPU, for as long as there is time."""

    def part(bench: Bench) -> None:
        device = "the CPU" if wants_cpu() else "the GPU"
        table = bench.table(f"Tests on {device}", ("tests", "result"))
        seconds = bench.left
        if seconds < 15:
            return
        line = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-rfE", *shlex.split(arguments)]
        line += ["--continue-on-collection-errors"]  # a bare machine lacks what some tests import
        if find_spec("xdist") is not None:
            line += ["-n", str(min(12, os.cpu_count() or 1)), "--dist", "loadfile"]
        own = {"PERSONALIZE_DEVICE": "cpu" if wants_cpu() else "cuda"}
        code, out = timed(line, seconds, own)
        failed = [text for text in out if text.startswith(("FAILED ", "ERROR "))]
        last = next((text for text in reversed(out) if " in " in text or "rror" in text), "")
        table.add(arguments, last.strip("= ") or f"exit code {code}", failed=code != 0)
        for text in failed[:40]:
            table.add(text.split(" - ")[0], text.partition(" - ")[2][:200], failed=True)

    return part


def training_bench(latents: int, rounds: int) -> Callable[[Bench], None]:
    """`make bench`: a step of ours beside diffusers' and the host's forward pass."""

    def part(bench: Bench) -> None:
        table = bench.table("make bench", ("its page",))
        seconds = bench.left
        if seconds < 20:
            return
        checkpoint = bench.base / "models" / "checkpoints" / CHECKPOINT
        line = [sys.executable, str(ROOT / "tools" / "run.py"), "bench"]
        options = ["--latents", str(latents), "--rounds", str(rounds)]
        code, out = timed([*line, *options, "--checkpoint", str(checkpoint)], seconds, {})
        table.note = "\n".join(out) if code == 0 else ""
        table.add("see above" if code == 0 else " ".join(out)[-300:], failed=code != 0)

    return part


def timed(line: Sequence[str], seconds: float, own: dict[str, str]) -> tuple[int, list[str]]:
    """Exit code and output of a command, which is interrupted, as by Ctrl+C, when time is up."""
    process = subprocess.Popen(
        line, cwd=ROOT, env={**os.environ, **own}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(ctrl_c())
        try:
            out, _ = process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        out += f"\ninterrupted after {seconds:.0f} s"
    return process.returncode, [text for text in out.splitlines() if text.strip()]
