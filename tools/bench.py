"""A training step on real SD1.5 shapes with random weights, side by side with its yardsticks.

    python tools/bench.py                     256 px, 7 rounds
    python tools/bench.py --latents 64 --rounds 3

Compared, each in a process of its own so that each has its own memory peak, one step each in turn:
    ours        one step of training/ with Textual Inversion, as the node runs it
    diffusers   the same step by plain diffusers and transformers, in fp32
    forward     the host's UNet once, without gradients, as its samplers call it
All take the same batch, size, templates, optimizer and weights; latents are given, no VAE runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

from alias import prepare_host, register_pack

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SEED = 0
INIT_WORD = "dog"
VARIANTS = ("ours", "diffusers", "forward")


# --- random weights ---------------------------------------------------------------------------


def make_checkpoint(path: Path) -> None:
    """UNet and text encoder of SD1.5 with well-scaled random weights, fp16, 2 GB."""
    import torch
    from safetensors.torch import save_file

    noise = torch.randn(1 << 24, generator=torch.Generator().manual_seed(SEED))
    tensors = {
        key: _random_weight(key, shape, noise) for key, shape in _shapes().items()
    }
    save_file(tensors, path)


def _shapes() -> dict[str, torch.Size]:
    """Keys and shapes of an SD1.5 checkpoint, without its VAE."""
    import torch
    from comfy import ops, sd1_clip
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=320,
        num_res_blocks=[2, 2, 2, 2],
        channel_mult=[1, 2, 4, 4],
        transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0],
        transformer_depth_output=[1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        transformer_depth_middle=1,
        num_heads=8,
        use_spatial_transformer=True,
        context_dim=768,
        legacy=False,
        dtype=torch.float16,
        device="meta",
        operations=ops.disable_weight_init,
    )
    text = sd1_clip.SDClipModel(device="meta", dtype=torch.float16).transformer.text_model
    parts = {"model.diffusion_model.": unet, "cond_stage_model.transformer.text_model.": text}
    return {
        prefix + key: weight.shape
        for prefix, module in parts.items()
        for key, weight in module.state_dict().items()
    }


def _random_weight(key: str, shape: torch.Size, noise: Tensor) -> Tensor:
    import torch

    if len(shape) < 2:
        return torch.full(shape, 1.0 if key.endswith("weight") else 0.01, dtype=torch.float16)
    scale = 0.015 if "embedding" in key else shape[1:].numel() ** -0.5
    repeats = -(-shape.numel() // len(noise))
    return (noise * scale).half().repeat(repeats)[: shape.numel()].view(shape)


# --- the variants -----------------------------------------------------------------------------


class Variant(Protocol):
    def step(self) -> None:
        """One step, as it is really done."""
        ...

    def parts(self) -> Iterator[str]:
        """The same step again, stopping after each part with its name."""
        ...


class Ours:
    """`training.loop` with Textual Inversion on latents of one picture."""

    def __init__(self, checkpoint: Path, latents: int, stack: ExitStack) -> None:
        import torch
        from personalize.host.backbone import Backbone
        from personalize.host.latents import LatentPosterior
        from personalize.training.loop import Training
        from personalize.training.pictures import EncodedPictures
        from personalize.training.textual_inversion import (
            TextualInversion,
            TextualInversionConfig,
        )

        model, clip = _load(checkpoint)
        self.backbone = Backbone(model, clip)
        stack.enter_context(self.backbone.session((1, 4, latents, latents)))
        config = TextualInversionConfig(placeholder="<x>", init_word=INIT_WORD)
        posterior = LatentPosterior(_randn(1, latents), torch.zeros(1, 4, latents, latents))
        self.learner = TextualInversion(config, self.backbone)
        pictures = EncodedPictures(posterior, None)
        self.training = Training(self.learner, config, self.backbone, pictures)

    def step(self) -> None:
        self.training._one_step()

    def parts(self) -> Iterator[str]:
        import torch
        from personalize.training.batch import denoising_loss, draw_batch

        words, text = self.learner.words, self.backbone.text
        batch = draw_batch(
            self.training.pictures, self.backbone, 1, len(self.learner.table), self.training.generator
        )
        yield "draw"
        context = text.encode(self.learner.table.embed(text, batch.prompt, words))
        yield "text forward"
        loss = denoising_loss(self.backbone, batch, context)
        yield "UNet forward"
        (upstream,) = torch.autograd.grad(loss, context)
        yield "UNet backward"
        (words.grad,) = torch.autograd.grad(context, words, upstream)
        yield "text backward"
        self.training.optimizer.step()
        self.training.optimizer.zero_grad()
        yield "optimizer"


class Diffusers:
    """The same step with nothing but diffusers, transformers and torch, all in fp32."""

    def __init__(self, checkpoint: Path, latents: int, stack: ExitStack) -> None:
        import torch
        from personalize.tests.training.reference import SD1, Reference
        from personalize.tools.get_host import get_host
        from personalize.training.templates import OBJECT_TEMPLATES

        tokenizer = get_host() / "comfy" / "sd1_tokenizer"
        self.reference = Reference(checkpoint, SD1, tokenizer, words=1)
        start = self.reference.tokenizer(INIT_WORD).input_ids[1:-1]
        table = self.reference.text.embeddings.token_embedding.table
        self.word = table[start].clone().requires_grad_(True)
        self.optimizer = torch.optim.AdamW([self.word], lr=0.005, weight_decay=1e-2)
        self.latents = _randn(1, latents) * 0.18215
        self.templates = OBJECT_TEMPLATES
        self.generator = torch.Generator().manual_seed(SEED)

    def step(self) -> None:
        for _ in self.parts():
            pass

    def parts(self) -> Iterator[str]:
        import torch

        reference = self.reference
        noise = torch.randn(self.latents.shape, generator=self.generator)
        t = torch.randint(1000, (1,), generator=self.generator)
        which = torch.randint(len(self.templates), (1,), generator=self.generator)
        yield "draw"
        context = reference.context(self.word, [self.templates[int(which)].format("<v0>")])
        yield "text forward"
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
        self.x, self.context = _randn(1, latents), torch.randn(1, 77, 768)

    def step(self) -> None:
        import torch

        self.model.model.apply_model(
            self.x, torch.tensor([1.0]), c_crossattn=self.context, transformer_options={}
        )

    def parts(self) -> Iterator[str]:
        self.step()
        yield "UNet forward"


def _load(checkpoint: Path, text: bool = True):
    import torch
    from comfy.sd import load_checkpoint_guess_config

    with torch.inference_mode():
        loaded = load_checkpoint_guess_config(str(checkpoint), output_vae=False, output_clip=text)
    return loaded[0], loaded[1]


def _randn(count: int, latents: int) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(count, 4, latents, latents, generator=generator)


# --- a process a variant ----------------------------------------------------------------------


def serve(variant: str, checkpoint: Path, latents: int) -> None:
    """Answer "step" and "parts" lines with JSON until the input ends; loading is not counted."""
    import torch

    logging.disable(logging.INFO)
    kinds: dict[str, Callable[[Path, int, ExitStack], Variant]]
    kinds = {"ours": Ours, "diffusers": Diffusers, "forward": Forward}
    with ExitStack() as stack:
        subject = kinds[variant](checkpoint, latents, stack)
        answer: dict = {"loaded": _memory(), "threads": torch.get_num_threads()}
        _reset_peak()
        print(json.dumps(answer), flush=True)
        for line in sys.stdin:
            began = last = time.perf_counter()
            parts = {}
            if line.strip() == "parts":
                for name in subject.parts():
                    now = time.perf_counter()
                    parts[name], last = now - last, now
            else:
                subject.step()
            seconds = time.perf_counter() - began
            print(json.dumps({"seconds": seconds, "parts": parts, "memory": _memory()}), flush=True)


def _memory() -> dict[str, float]:
    """Resident memory now and at its peak, in GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    gib = {key: int(fields[key].split()[0]) / 2**20 for key in ("VmRSS", "VmHWM", "RssAnon")}
    return {"now": gib["VmRSS"], "peak": gib["VmHWM"]}


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Worker:
    """A variant in its own process."""

    def __init__(self, variant: str, checkpoint: Path, latents: int) -> None:
        command = [sys.executable, __file__, "--serve", variant, "--checkpoint", str(checkpoint)]
        self.process = subprocess.Popen(
            [*command, "--latents", str(latents)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.started = self._answer()
        self.last: dict = {}

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self.process.args} ended early.")

    def ask(self, what: str) -> dict:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        self.last = self._answer()
        return self.last

    def close(self) -> None:
        self.process.communicate()


# --- the comparison ---------------------------------------------------------------------------


def compare(checkpoint: Path, latents: int, rounds: int) -> str:
    """Run all variants in turn, one round to warm up; return the report."""
    with workers(checkpoint, latents) as running:
        for worker in running.values():
            worker.ask("step")
            worker.ask("parts")
        times: dict[str, list[float]] = {name: [] for name in running}
        parts: dict[str, list[dict[str, float]]] = {name: [] for name in running}
        for _ in range(rounds):
            for name, worker in running.items():
                times[name].append(worker.ask("step")["seconds"])
        for _ in range(max(2, rounds // 2)):
            for name in ("ours", "diffusers"):
                parts[name].append(running[name].ask("parts")["parts"])
        return report(running, times, parts, latents)


@contextmanager
def workers(checkpoint: Path, latents: int) -> Iterator[dict[str, Worker]]:
    running: dict[str, Worker] = {}
    try:
        for variant in VARIANTS:
            running[variant] = Worker(variant, checkpoint, latents)
        yield running
    finally:
        for worker in running.values():
            worker.close()


def report(
    running: dict[str, Worker],
    times: dict[str, list[float]],
    parts: dict[str, list[dict[str, float]]],
    latents: int,
) -> str:
    middle = {name: median(values) for name, values in times.items()}
    threads = running["ours"].started["threads"]
    lines = [
        f"{latents * 8} px ({latents} x {latents} latents), batch 1, {threads} threads, "
        f"medians of {len(times['ours'])} rounds",
        "",
        "| | s a step | fastest to slowest | forwards | GiB loaded | GiB at peak |",
        "|---|---|---|---|---|---|",
    ]
    for name, worker in running.items():
        lines.append(
            f"| {name} | {middle[name]:.2f} | {min(times[name]):.2f} to {max(times[name]):.2f} "
            f"| {middle[name] / middle['forward']:.2f} | {worker.started['loaded']['now']:.2f} "
            f"| {worker.last['memory']['peak']:.2f} |"
        )
    ratio = middle["ours"] / middle["diffusers"]
    lines += ["", f"ours / diffusers: {ratio:.3f}", "", "| part, s | ours | diffusers |", "|---|---|---|"]
    for part in parts["ours"][0]:
        row = [median(p[part] for p in parts[name]) for name in ("ours", "diffusers")]
        lines.append(f"| {part} | {row[0]:.3f} | {row[1]:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latents", type=int, default=32, help="side in latents: pixels / 8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--checkpoint", type=Path, help="an SD1.5 file; made and removed if left out")
    parser.add_argument("--serve", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        prepare()
        serve(options.serve, options.checkpoint, options.latents)
        return
    with tempfile.TemporaryDirectory(prefix="personalize-bench-") as folder:
        checkpoint = options.checkpoint
        if checkpoint is None:
            checkpoint = Path(folder) / "sd15_random.safetensors"
            run_apart(checkpoint)
        print(compare(checkpoint, options.latents, options.rounds))
