"""How a training step grows with the batch and the pictures' size, side by side with diffusers.

    make bench ARGS="growth --rounds 5"
    make bench ARGS="growth --batches 1 8 --pixels 512"

Textual Inversion, as in bench.py: ours, on CUDA also replayed as a graph, without and with
channels_last, and plain diffusers. Each has its process; of each size and batch it does some steps
to warm up, and then as many as there are rounds, in turn with the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Protocol

BATCHES, PIXELS = (1, 2, 4, 8), (512, 768)
ON_GPU = ("replayed", "channels last")  # variants of ours that CUDA alone has
CELL = 8  # pixels of a latent
WARM_UP = 6  # steps: a graph is captured with the third one, and checked until the fifth


class Asked(Protocol):
    """A process that does steps."""

    def ask(self, what: str) -> Mapping[str, Any]: ...


def variants(device: str) -> tuple[str, ...]:
    """What is compared on a type of device."""
    return ("ours", *(ON_GPU if device == "cuda" else ()), "diffusers")


def report(
    running: Mapping[str, Asked], batches: Sequence[int], pixels: Sequence[int], rounds: int
) -> str:
    """Milliseconds of a step, against those of diffusers, and memory at the peak."""
    names = list(running)
    ratios = [f"{name} / diffusers" for name in names if name != "diffusers"]
    columns = ["px", "batch", *(f"{n}, ms" for n in names), *ratios, *(f"{n}, GiB" for n in names)]
    lines = [columns, ["---"] * len(columns)]
    for size in pixels:
        for batch in batches:
            found = measured(running, size // CELL, batch, rounds)
            ms = {name: 1000 * seconds for name, (seconds, _) in found.items()}
            cells = [f"{size}", f"{batch}", *(f"{ms[name]:.1f}" for name in names)]
            cells += [f"{ms[name] / ms['diffusers']:.2f}" for name in names if name != "diffusers"]
            lines.append([*cells, *(f"{peak:.2f}" for _, peak in found.values())])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"Medians of {rounds} steps\n\n{table}"


def measured(
    running: Mapping[str, Asked], latents: int, batch: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Seconds of a step and GiB at the peak, by variant."""
    seconds: dict[str, list[float]] = {name: [] for name in running}
    peaks = dict.fromkeys(running, 0.0)
    for one in running.values():
        one.ask(f"shape {latents} {batch}")
        for _ in range(WARM_UP):
            one.ask("step")
    for _ in range(rounds):
        for name, one in running.items():
            answer = one.ask("step")
            seconds[name].append(answer["seconds"])
            peaks[name] = max(peaks[name], answer["memory"]["peak"])
    return {name: (median(times), peaks[name]) for name, times in seconds.items()}
