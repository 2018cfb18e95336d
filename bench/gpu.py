"""Everything that only a GPU shows: each method on a real server at real shapes, in 8 minutes.

    make gpu                            writes docs/gpu.md; without a GPU it says what it would do
    make gpu ARGS="--minutes 4 --only default fp8"
    make gpu ARGS="--cpu --tiny --output gpu.md"         the same way in small, to try it

Where nothing can be installed: `python tools/run.py pack_gpu` makes a folder to take there.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ..cli.comfyui import (
    DEVICE,
    ROOT,
    OnCpu,
    checkout_version,
    device_name,
    has_gpu,
    needed_host,
    prepare_host,
)
from ..tools.server.server import make_base_directory
from ..version import __version__
from .on_gpu import bare, report
from .on_gpu.models import REAL, TINY, Size
from .on_gpu.stages import (
    FEW,
    MANY,
    Bench,
    Clock,
    Skipped,
    default_server,
    host_tests,
    other_server,
    replayed_server,
    training_bench,
)

MINUTES = 8.0
PAGE = ROOT / "docs" / "gpu.md"
TESTS = "tests -m 'host and not (server or browser or slow)'"


# Seconds, estimated from what an H200 took for trainings through a server (an earlier version):
# 25 steps of batch 8 in 4.9 s, 100 of batch 1 in 15.5 s, both with all around them.
MODELS = 25.0  # to make them
SERVER = 18.0  # to start, and to load the checkpoint the first time
WORKFLOW = 1.6  # beside the steps of a training
STEP = 0.16
METHODS = 7  # the stages of ELITE are two


@dataclass(frozen=True)
class Part:
    """need: seconds that are kept free for it while the parts before it run

    servers, workflows, steps: how many of them, from which its time is estimated
    """

    name: str
    about: str
    run: Callable[[Bench], None]
    need: float = 0.0
    servers: int = 0
    workflows: int = 0
    steps: int = 0

    @property
    def seconds(self) -> float:
        return self.need + self.servers * SERVER + self.workflows * WORKFLOW + self.steps * STEP


def estimate(chosen: Sequence[Part]) -> float:
    """Seconds of the whole command."""
    return MODELS + sum(part.seconds for part in chosen)


def parts(tests: str, latents: int, steps: tuple[int, int] = (FEW, MANY)) -> list[Part]:
    """In the order of what matters most; where time ends, the rest is not reached."""
    few, many = (METHODS * count for count in steps)
    once = {"servers": 1, "workflows": METHODS}
    flags = {
        "dynamic off": ("--disable-dynamic-vram",),
        "lowvram": ("--lowvram", "--disable-dynamic-vram"),  # it does nothing beside dynamic VRAM
        "novram": ("--novram",),
        "fp8": ("--fp8_e4m3fn-unet",),
    }
    servers = [
        Part(
            name,
            f"every method once, with {' '.join(words)}",
            other_server(*words),
            **once,
            steps=few,
        )
        for name, words in flags.items()
    ]
    default = (
        "every method twice with the host's defaults, the models before and after it, cancelled "
        "and resumed, bf16 and fp32; Segment Anything"
    )
    # once, again with two previews of 20 steps each, the models, and cancelled and resumed; types
    workflows = 2 + METHODS * (1 + 1 + 1 + 2) + 1 + 2 * METHODS
    replayed = "every method once, steps replayed as CUDA graphs"
    return [
        Part(
            "default",
            default,
            default_server,
            servers=1,
            workflows=workflows,
            steps=3 * many + 2 * few + 40 * METHODS // 3,
        ),
        Part("replayed", replayed, replayed_server, **once, steps=many),
        *servers,
        Part("tests", f"pytest {tests}", host_tests(tests), 60),
        Part("bench", "make bench at 512 px", training_bench(latents, 3), 40),
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpu", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--cpu", action=OnCpu)
    add("--tiny", action="store_true", help="tiny models, to try the command itself")
    add("--pixels", type=int, help="side of the pictures, instead of 512")
    add("--minutes", type=float, default=MINUTES)
    add("--only", nargs="+", metavar="PART", help="some of the parts")
    add("--tests", default=TESTS, help="which ones, as pytest is told")
    add("--steps", type=int, nargs=2, default=(FEW, MANY), help="of trainings; of timed ones")
    add("--output", type=Path, default=PAGE, help="the page to write")
    add("--models", type=Path, help="a folder for the base directory, with models kept in it")
    add("--packed", type=Path, help="what pack_gpu made, on a machine that has nothing of ours")
    options = parser.parse_args(arguments)
    if options.packed is not None:
        return bare.run_again(options.packed, without_packed(arguments))
    every = parts(options.tests, 64)
    chosen = [part for part in every if options.only is None or part.name in options.only]
    if unknown := set(options.only or ()) - {part.name for part in every}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are "
                     f"{', '.join(part.name for part in every)}")  # fmt: skip
    if os.environ.get(DEVICE) != "cpu" and not has_gpu():
        print(plan(chosen, options.minutes))
        return 0
    size = TINY if options.tiny else REAL
    return measure(chosen, options, replace(size, pixels=options.pixels or size.pixels))


def without_packed(arguments: Sequence[str]) -> list[str]:
    rest = list(arguments)
    place = next(n for n, word in enumerate(rest) if word.split("=")[0] == "--packed")
    del rest[place : place + (1 if "=" in rest[place] else 2)]
    return rest


def plan(chosen: Sequence[Part], minutes: float) -> str:
    """What the command would do on a machine that has a GPU."""
    lines = [f"torch sees no GPU here. With one this would, within {minutes:g} minutes:"]
    lines += ["- make an SD1.5 checkpoint, a CLIP vision encoder and a SAM with random weights"]
    lines += [f"- {part.name}: {part.about} (about {part.seconds:.0f} s)" for part in chosen]
    lines.append(f"about {estimate(chosen):.0f} s in all, as far as a CPU can tell,")
    return "\n".join([*lines, f"and write {PAGE.relative_to(ROOT)}. --cpu --tiny tries it here."])


def measure(chosen: Sequence[Part], options: argparse.Namespace, size: Size) -> int:
    """Run the parts; the page is written after each row, so that it is there whatever happens."""
    clock = Clock(60 * options.minutes)
    host = needed_host()
    base = make_base_directory(options.models)
    known = facts(host)
    print("\n".join(known), flush=True)
    prepare_host(True, base, host)  # this process makes models on the CPU and leaves the GPU alone
    bench = Bench(host, base, size, clock, more=server_arguments(base), steps=tuple(options.steps))

    left = [part.name for part in chosen]

    def write() -> None:
        shapes = f"{size.title}, {size.pixels} px"
        text = report.page(known, bench.tables, shapes, clock.used / 60, left)
        report.write(options.output, text)

    bench.on_row = write
    ended = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers end with it
    try:
        write()
        size.make(base / "models")
        known.append(f"models made after {clock.used:.0f} s")
        print(known[-1], flush=True)
        for n, part in enumerate(chosen):
            bench.kept = sum(later.need for later in chosen[n + 1 :])
            left.remove(part.name)
            attempt(part, bench)
            write()
    finally:
        signal.signal(signal.SIGTERM, ended)
        if options.models is None:
            shutil.rmtree(base, ignore_errors=True)
    print(f"written: {options.output}", flush=True)
    states = [row.state for table in bench.tables for row in table.rows]
    return 1 if report.State.FAILED in states else 0


def attempt(part: Part, bench: Bench) -> None:
    """Run a part; whatever it raises becomes a row."""
    try:
        part.run(bench)
    except Skipped:
        pass
    except Exception as error:  # a fault of the bench itself must not end it
        table = bench.table(f"{part.name}, ended early", ("error",))
        table.add(f"{type(error).__name__}: {error}"[:300], failed=True)


def server_arguments(base: Path) -> tuple[str, ...]:
    """What a machine without the frontend's package needs: an empty page, in the base directory."""
    if find_spec("comfyui_frontend_package") is not None:
        return ()
    page = base / "page"
    page.mkdir(exist_ok=True)
    (page / "index.html").write_text("<html></html>", encoding="utf-8")
    return "--front-end-root", str(page)


def facts(host: Path) -> list[str]:
    """Card, driver and versions."""
    import torch

    found = [f"computed on {device_name()}"]
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        found = [f"{device_name()}, {memory:.0f} GiB, driver {driver()}"]
        found.append(f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    found.append(f"torch {torch.__version__}, Python {sys.version.split()[0]}, {platform.system()}")
    found.append(f"ComfyUI {checkout_version(host)}, Personalize {__version__}")
    return found


def driver() -> str:
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split()[0] if done.stdout.split() else "unknown"
