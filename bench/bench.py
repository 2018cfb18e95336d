"""A training step on real SD1.5 shapes with random weights, side by side with its yardsticks.

    make bench                                    256 px, 5 rounds
    make bench ARGS="--latents 64 --rounds 3"
    make bench ARGS="elite --latents 64 --rounds 2"    ELITE instead: see bench_elite.py
    make bench ARGS="detex --rounds 2"                 DETEX instead: see bench_detex.py
    make bench ARGS=memory                             which cards fit what: see bench_memory.py
    make bench ARGS=growth       how steps grow with batch and size on a GPU: see bench_growth.py

Compared, each in a process of its own so that each has its own memory peak, one step each in turn:
    ours        one step of training/ with Textual Inversion, as the node runs it
    catversion  the same with CatVersion
    diffusers   the same step by plain diffusers and transformers, in fp32
    forward     the host's UNet once, without gradients, as its samplers call it
and on a GPU
    replayed    ours with steps replayed as a CUDA graph (PERSONALIZE_REPLAY)
    channels last    that with the UNet's convolutions in channels_last (--force-channels-last)
All take the same batch, size, templates, optimizer and weights; latents are given, no VAE runs.
The peak is that of the steps, not of the loading. Processor seconds hardly depend on what else the
machine does, seconds do.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from ..cli.comfyui import ROOT, OnCpu, prepare_host
from . import bench_detex, bench_elite, bench_growth, bench_memory
from .bench_growth import ON_GPU
from .costs import (
    as_diffusers_trains,
    conditions,
    device_of_host,
    memory,
    reset_peak,
    synchronize,
)
from .random_weights import make_sd15, random_latents

if TYPE_CHECKING:
    from ..training.pictures import EncodedPictures

WHAT = ("training", "elite", "detex", "memory", "growth")
SEED = 0
INIT_WORD = "dog"
VARIANTS = ("ours", "catversion", "diffusers", "forward")
Answer = dict[str, Any]


# --- the variants -----------------------------------------------------------------------------


class Variant(Protocol):
    def shape(self, latents: int, batch: int) -> None:
        """Go on with latents of another side, and another number of them."""
        ...

    def step(self) -> None:
        """One step, as it is really done."""
        ...

    def parts(self) -> Iterator[str]:
        """The same step again, stopping after each part with its name."""
        ...


class Ours:
    """`training.loop` with Textual Inversion on latents of one picture."""

    def __init__(self, checkpoint: Path, latents: int, stack: ExitStack) -> None:
        from ..host.backbone import Backbone

        model, clip = _load(checkpoint)
        self.backbone = Backbone(model, clip)
        self._session = stack.enter_context(ExitStack())
        self.shape(latents, 1)

    def shape(self, latents: int, batch: int) -> None:
        import torch

        from ..host.latents import LatentPosterior
        from ..training.loop import Training
        from ..training.memory import fitted
        from ..training.pictures import EncodedPictures

        self._session.close()
        self._session.enter_context(self.backbone.session((batch, 4, latents, latents)))
        posterior = LatentPosterior(random_latents(1, latents), torch.zeros(1, 4, latents, latents))
        config, self.learner = self.start(EncodedPictures(posterior, None), batch)
        config = fitted(config, self.backbone, self.learner.parameters)
        self.training = Training(self.learner, config, self.backbone, self.draw)

    def start(self, pictures: EncodedPictures, batch: int) -> tuple[Any, Any]:
        """The method's config and learner."""
        from ..training.textual_inversion import (
            TextualInversion,
            TextualInversionConfig,
        )

        config = TextualInversionConfig(placeholder="<x>", init_word=INIT_WORD, batch_size=batch)
        return config, TextualInversion(config, self.backbone, pictures)

    def draw(self, _: int, generator: Any) -> Any:
        return self.learner.draw(self.backbone, generator)

    def step(self) -> None:
        self.training._one_step()

    def parts(self) -> Iterator[str]:
        import torch

        from ..training.batch import denoising_loss

        parameters = list(self.learner.parameters.values())
        batch = self.draw(0, self.training.generator)
        yield "draw"
        context = self.learner.context(self.backbone, batch)
        yield "text forward"
        loss = denoising_loss(self.backbone, batch, context)
        yield "UNet forward"
        (upstream,) = torch.autograd.grad(loss, context.rows)
        yield "UNet backward"
        gradients = torch.autograd.grad(context.rows, parameters, upstream)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        yield "text backward"
        self.training.optimizer.step()
        self.training.optimizer.zero_grad()
        yield "optimizer"


class OursCatVersion(Ours):
    """The same with CatVersion: residuals in the last three text layers."""

    def start(self, pictures: EncodedPictures, batch: int) -> tuple[Any, Any]:
        from ..training.catversion import CatVersion, CatVersionConfig

        config = CatVersionConfig(placeholder="<x>", class_word=INIT_WORD, batch_size=batch)
        return config, CatVersion(config, self.backbone, pictures)


class Replayed(Ours):
    """The same with steps replayed as a CUDA graph."""

    def __init__(self, checkpoint: Path, latents: int, stack: ExitStack) -> None:
        from ..training.replay import SETTING

        os.environ[SETTING] = "1"
        super().__init__(checkpoint, latents, stack)


class ReplayedChannelsLast(Replayed):
    """And with the UNet's convolutions in channels_last, as --force-channels-last makes them."""

    def __init__(self, checkpoint: Path, latents: int, stack: ExitStack) -> None:
        from comfy.cli_args import args

        args.force_channels_last = True
        super().__init__(checkpoint, latents, stack)


class Diffusers:
    """The same step with nothing but diffusers, transformers and torch, all in fp32."""

    def __init__(self, checkpoint: Path, latents: int, stack: ExitStack) -> None:
        import torch
        from comfy import sd1_clip

        from ..tests.training.reference import SD1, Reference
        from ..training.templates import OBJECT_TEMPLATES

        tokenizer = Path(sd1_clip.__file__).parent / "sd1_tokenizer"
        self.reference = Reference(checkpoint, SD1, tokenizer, words=1).to(device_of_host())
        start = self.reference.tokenizer(INIT_WORD).input_ids[1:-1]
        table: Any = self.reference.text.embeddings.token_embedding.table
        self.word = table[start].clone().requires_grad_(True)
        self.optimizer = torch.optim.AdamW([self.word], lr=0.005, weight_decay=1e-2)
        self.shape(latents, 1)
        self.templates = OBJECT_TEMPLATES
        self.generator = torch.Generator().manual_seed(SEED)

    def shape(self, latents: int, batch: int) -> None:
        self.latents = random_latents(batch, latents).to(device_of_host()) * 0.18215

    def step(self) -> None:
        for _ in self.parts():
            pass

    def parts(self) -> Iterator[str]:
        import torch

        reference, device, count = self.reference, self.latents.device, len(self.latents)
        noise = torch.randn(self.latents.shape, generator=self.generator).to(device)
        t = torch.randint(1000, (count,), generator=self.generator).to(device)
        which = torch.randint(len(self.templates), (count,), generator=self.generator)
        prompts = [self.templates[n].format("<v0>") for n in which.tolist()]
        yield "draw"
        with as_diffusers_trains():
            context = reference.context(self.word, prompts)
        yield "text forward"
        with as_diffusers_trains():
            loss = reference.denoising_loss(context, self.latents, noise, t)
        loss.item()
        yield "UNet forward"
        (upstream,) = torch.autograd.grad(loss, context)
        yield "UNet backward"
        (self.word.grad,) = torch.autograd.grad(context, self.word, upstream)
        yield "text backward"
        self.optimizer.step()
        self.optimizer.zero_grad()
        yield "optimizer"


class Forward:
    """The host's own noise prediction."""

    def __init__(self, checkpoint: Path, latents: int, stack: ExitStack) -> None:
        import torch
        from comfy.model_management import load_models_gpu

        stack.enter_context(torch.inference_mode())
        self.model, _ = _load(checkpoint, text=False)
        load_models_gpu([self.model])
        self.shape(latents, 1)

    def shape(self, latents: int, batch: int) -> None:
        import torch

        device = device_of_host()
        self.x = random_latents(batch, latents).to(device)
        self.context = torch.randn(batch, 77, 768).to(device)
        self.sigma = torch.ones(batch, device=device)

    def step(self) -> None:
        self.model.model.apply_model(
            self.x, self.sigma, c_crossattn=self.context, transformer_options={}
        )

    def parts(self) -> Iterator[str]:
        self.step()
        yield "UNet forward"


def _load(checkpoint: Path, text: bool = True) -> tuple[Any, Any]:
    import torch
    from comfy.sd import load_checkpoint_guess_config

    with torch.inference_mode():
        loaded = load_checkpoint_guess_config(str(checkpoint), output_vae=False, output_clip=text)
    return loaded[:2]


# --- a process a variant ----------------------------------------------------------------------


def serve(variant: str, checkpoint: Path, latents: int) -> None:
    """Answer lines with JSON until the input ends: "step", "parts" and "shape LATENTS BATCH".

    Loading is not counted.
    """
    logging.disable(logging.INFO)
    kinds: dict[str, Callable[[Path, int, ExitStack], Variant]]
    kinds = {
        "ours": Ours,
        "catversion": OursCatVersion,
        "diffusers": Diffusers,
        "forward": Forward,
        "replayed": Replayed,
        "channels last": ReplayedChannelsLast,
    }
    with ExitStack() as stack:
        subject = kinds[variant](checkpoint, latents, stack)
        print(json.dumps({"memory": memory(), "conditions": conditions()}), flush=True)
        reset_peak()
        for line in sys.stdin:
            began, used = time.perf_counter(), time.process_time()
            parts: dict[str, float] = {}
            if line.startswith("shape"):
                subject.shape(*map(int, line.split()[1:]))
                reset_peak()
            elif line.strip() == "parts":
                for name in subject.parts():
                    synchronize()
                    parts[name] = time.process_time() - used - sum(parts.values())
            else:
                subject.step()
            synchronize()
            answer = {
                "seconds": time.perf_counter() - began,
                "processor": time.process_time() - used,
                "parts": parts,
                "memory": memory(),
            }
            print(json.dumps(answer), flush=True)


class Worker:
    """A variant in its own process. What it complains of is kept, and told when it ends early."""

    def __init__(self, variant: str, checkpoint: Path, latents: int) -> None:
        run = [sys.executable, str(ROOT / "tools" / "run.py"), "bench"]
        command = [*run, "--serve", variant, "--checkpoint", str(checkpoint)]
        # waiting threads sleep, so that processor seconds count work alone
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the worker
        self.process = subprocess.Popen(
            [*command, "--latents", str(latents)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
            text=True,
        )
        self.started = self._answer()

    def _answer(self) -> Answer:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._complaints.seek(0)
        told = self._complaints.read().decode("utf-8", "replace")
        raise RuntimeError(f"{self.process.args} ended early:\n{told[-3000:]}")

    def ask(self, what: str) -> Answer:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.communicate()
        self._complaints.close()


# --- the comparison ---------------------------------------------------------------------------


def compare(checkpoint: Path, latents: int, rounds: int) -> str:
    """Run all variants in turn, after one round to warm up; return the report."""
    variants = VARIANTS + (ON_GPU if device_of_host().type == "cuda" else ())
    steps: dict[str, list[Answer]] = {variant: [] for variant in variants}
    parts: dict[str, list[Answer]] = {variant: [] for variant in variants}
    with workers(checkpoint, latents, variants) as running:
        for variant, worker in running.items():
            for _ in range(bench_growth.WARM_UP if variant in ON_GPU else 1):
                worker.ask("step")
        for _ in range(rounds):
            for variant, worker in running.items():
                steps[variant].append(worker.ask("step"))
        for _ in range(max(1, rounds // 2)):
            for variant in ("ours", "diffusers"):
                parts[variant].append(running[variant].ask("parts"))
        started = {variant: worker.started for variant, worker in running.items()}
    title = (
        f"{latents * 8} px ({latents} x {latents} latents), batch 1, "
        f"{started['ours']['conditions']}, medians of {rounds} rounds"
    )
    return "\n".join([title, "", *steps_table(started, steps), "", *parts_table(parts)])


@contextmanager
def workers(
    checkpoint: Path, latents: int, variants: Sequence[str] = VARIANTS
) -> Iterator[dict[str, Worker]]:
    running: dict[str, Worker] = {}
    try:
        for variant in variants:
            running[variant] = Worker(variant, checkpoint, latents)
        yield running
    finally:
        for worker in running.values():
            worker.close()


def steps_table(started: dict[str, Answer], steps: dict[str, list[Answer]]) -> list[str]:
    """Seconds, ratios and memory of whole steps."""
    seconds, processor = (
        {variant: median(a[key] for a in answers) for variant, answers in steps.items()}
        for key in ("seconds", "processor")
    )
    lines = [
        "| | s a step | forwards | processor s | forwards | GiB loaded | GiB at peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant, answers in steps.items():
        times = [seconds[variant], seconds[variant] / seconds["forward"]]
        times += [processor[variant], processor[variant] / processor["forward"]]
        memory = started[variant]["memory"]["now"], answers[-1]["memory"]["peak"]
        lines.append(f"| {variant} | " + " | ".join(f"{n:.2f}" for n in (*times, *memory)) + " |")
    ratios = [side["ours"] / side["diffusers"] for side in (seconds, processor)]
    growth = {
        v: answers[-1]["memory"]["peak"] - started[v]["memory"]["now"]
        for v, answers in steps.items()
    }
    return [
        *lines,
        "",
        f"ours / diffusers: {ratios[0]:.3f} in seconds, {ratios[1]:.3f} in processor seconds; "
        f"a step adds {growth['ours']:.2f} GiB to what is loaded, diffusers "
        f"{growth['diffusers']:.2f} GiB",
    ]


def parts_table(parts: dict[str, list[Answer]]) -> list[str]:
    """Where the processor seconds of a step go, and in per cent."""
    lines = [
        "| part of a step | ours, processor s | % | diffusers, processor s | % |",
        "|---|---|---|---|---|",
    ]
    names = list(parts["ours"][0]["parts"])
    middle = {
        variant: {name: median(a["parts"][name] for a in parts[variant]) for name in names}
        for variant in ("ours", "diffusers")
    }
    for name in names:
        cells = [
            f"{values[name]:.3f} | {100 * values[name] / sum(values.values()):.1f}"
            for values in middle.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Seconds and memory of a training step.")
    parser.add_argument("what", nargs="?", choices=WHAT, default="training")
    parser.add_argument("--latents", type=int, default=32, help="side in latents: pixels / 8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--checkpoint", type=Path, help="an SD1.5 file; made and removed if left out"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=bench_growth.BATCHES)
    parser.add_argument("--pixels", type=int, nargs="+", default=bench_growth.PIXELS)
    parser.add_argument("--only", choices=bench_elite.PARTS, help="one part of elite")
    parser.add_argument("--serve", choices=VARIANTS + ON_GPU, help=argparse.SUPPRESS)
    parser.add_argument("--cpu", action=OnCpu)
    return parser


def main(arguments: Sequence[str]) -> int:
    options = make_parser().parse_args(arguments)
    prepare_host()
    if options.serve:
        serve(options.serve, options.checkpoint, options.latents)
        return 0
    if options.what == "memory":
        print(bench_memory.report())
        return 0
    with tempfile.TemporaryDirectory(prefix="personalize-bench-") as folder:

        def checkpoint() -> Path:
            if options.checkpoint:
                return options.checkpoint
            made = Path(folder) / "sd15_random.safetensors"
            make_sd15(made)
            return made

        if options.what == "elite":
            parts = [options.only] if options.only else bench_elite.PARTS
            size = options.latents, options.rounds
            print(bench_elite.compare(lambda: _load(checkpoint()), *size, parts))
        elif options.what == "growth":
            variants = bench_growth.variants(device_of_host().type)
            with workers(checkpoint(), options.latents, variants) as running:
                told = bench_growth.report(running, options.batches, options.pixels, options.rounds)
            print(told)
        elif options.what == "detex":
            file = checkpoint()
            print(bench_detex.compare(*_load(file), file, options.latents, options.rounds))
        else:
            print(compare(checkpoint(), options.latents, options.rounds))
    return 0
