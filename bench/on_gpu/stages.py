"""The parts of the GPU bench, in the order of what matters most; each fills a table."""

from __future__ import annotations

import os
import shlex
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
from ...tools.server.server import ComfyServer, ServerError, ctrl_c
from . import workflows
from .models import CHECKPOINT, Size
from .report import Table
from .runs import NONCES, Outcome, difference, run

PACKS = {"personalize": ROOT, "bench": ROOT / "bench" / "on_gpu" / "pack"}
FEW, MANY = 10, 30  # steps of a training that is only to work, and of one that is cancelled
LEFT_OUT = "not reached in time"
REPLAY = "PERSONALIZE_REPLAY"  # as training/replay.py has it, which this process does not import
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
    on_table: Callable[[], None] = lambda: None

    def table(self, title: str, columns: Sequence[str], note: str = "") -> Table:
        self.tables.append(Table(title, tuple(columns), note=note))
        return self.tables[-1]

    def in_time(self, seconds: float = 0.0) -> bool:
        return self.clock.left - self.kept > seconds

    @contextmanager
    def server(self, table: Table, *arguments: str) -> Iterator[tuple[ComfyServer, ObjectInfo]]:
        """A server with these flags; the table tells when it does not start."""
        server = ComfyServer(
            self.host, self.base, {**PACKS, **self.size.packs}, [*arguments, *self.more]
        )
        try:
            try:
                server.start()
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
    """Every method twice, models before and after, cancel and resume, then other types."""
    table = bench.table("The host's defaults", (*COLUMNS, "again", "models after it"))
    cancelled = bench.table(
        "Cancelled and resumed", ("method", "result"), "Against a training that ran through."
    )
    types = {name: bench.table(f"precision {name}", COLUMNS) for name in ("bf16", "fp32")}
    with bench.server(table) as (server, info):
        before = [run(server, workflows.stock(bench.size, next(NONCES))) for _ in range(2)]
        for method, make in methods(info, bench.size):
            if not bench.in_time():
                table.add(method, LEFT_OUT, skipped=True)
                continue
            first = run(server, make({"steps": bench.steps[0]}))
            again = Outcome("the first failed")
            if first.ok:
                previews = {"preview_every": bench.steps[0] // 2}
                again = run(server, make({"steps": bench.steps[0], **previews}))
            after = run(server, workflows.stock(bench.size, next(NONCES)))
            repeats, same = compared(first, again), unchanged(before, after)
            wrong = not (first.ok and again.ok and same == "equal")
            told = (*cells(first), *("-",) * len(COLUMNS))[: len(COLUMNS) - 1]
            table.add(method, *told, repeats, same, failed=wrong)
            bench.on_table()
        extras(bench, server, info, table)
        for method, make in methods(info, bench.size):
            if bench.in_time():
                told = resumed(server, make, bench.steps[1])
                cancelled.add(method, told, failed=told not in ("equal", TOO_SHORT))
            else:
                cancelled.add(method, LEFT_OUT, skipped=True)
        for precision, part in types.items():
            each_method(bench, server, info, part, {"precision": precision})


def extras(bench: Bench, server: ComfyServer, info: ObjectInfo, table: Table) -> None:
    """What computes beside the trainers."""
    done = run(server, workflows.segmented(info, bench.size, next(NONCES)))
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
                each_method(bench, server, info, table, {})


def each_method(
    bench: Bench, server: ComfyServer, info: ObjectInfo, table: Table, changes: dict[str, Any]
) -> None:
    for method, make in methods(info, bench.size):
        if not bench.in_time():
            table.add(method, LEFT_OUT, skipped=True)
            continue
        done = run(server, make({"steps": bench.steps[0], **changes}))
        table.add(method, *cells(done), failed=not done.ok)
    bench.on_table()


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


def resumed(server: ComfyServer, make: Make, steps: int) -> str:
    """Cancel a training at its first step, go on, and compare with one that ran through."""

    def cancel(message: Message) -> None:
        if message.kind == "progress" and message.data.get("node") == "train":
            server.client.interrupt()

    settings = {"steps": steps, "train_seed": 1}  # another training than the other tables'
    stopped = run(server, make({**settings, "resume": True}), cancel)
    if not stopped.interrupted:
        return stopped.error or TOO_SHORT
    rest = run(server, make({**settings, "resume": True}))
    return compared(run(server, make({**settings, "resume": False})), rest)


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
        seconds = bench.clock.left - bench.kept
        if seconds < 15:
            return
        line = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-rfE", *shlex.split(arguments)]
        line += ["--continue-on-collection-errors"]  # a bare machine lacks what some tests import
        if find_spec("xdist") is not None:
            line += ["-n", str(min(8, os.cpu_count() or 1)), "--dist", "loadfile"]
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
        seconds = bench.clock.left - bench.kept
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
