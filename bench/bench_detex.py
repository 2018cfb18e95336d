"""Custom Diffusion and DETEX on real SD1.5 shapes with random weights: a training step.

    make bench ARGS="detex --rounds 2"

Compared, in one process and in turn, each with one picture of the subject and one of the class:
    diffusers           Custom Diffusion by plain diffusers and transformers, in fp32
    custom diffusion    ours
    detex               ours, with mappers, background removal and attention loss
    detex, no maps      the same with attention_weight 0
All take the same latents, optimizer and weights; no VAE and no CLIP vision runs. The memory is what
a step adds to what was there before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

from .costs import (
    as_diffusers_trains,
    conditions,
    device_of_host,
    memory,
    reset_peak,
    synchronize,
)
from .random_weights import random_latents

CLASS_WORD, PICTURES = "dog", 4
PLAIN, CUSTOM, DETEX, NO_MAPS = "diffusers", "custom diffusion", "detex", "detex, no maps"


@dataclass(frozen=True)
class Cost:
    """Of one step; gib: memory at its peak above what was there before."""

    seconds: float
    processor: float
    gib: float


def compare(model: Any, clip: Any, checkpoint: Path, latents: int, rounds: int) -> str:
    """Run all in turn, after one round to warm up; return the report."""
    with ours(model, clip, latents) as steps:
        steps = {PLAIN: Plain(checkpoint, latents).step, **steps}
        for step in steps.values():
            step()
        costs: dict[str, list[Cost]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                costs[name].append(measured(step))
    return report(costs, latents, rounds)


# --- what is compared -------------------------------------------------------------------------


@contextmanager
def ours(model: Any, clip: Any, latents: int) -> Iterator[dict[str, Callable[[], None]]]:
    """Steps of `training.loop` inside one session, on one set of projections."""
    from ..host.backbone import Backbone
    from ..training.custom_diffusion import (
        CustomDiffusion,
        CustomDiffusionConfig,
        CustomDiffusionPictures,
    )
    from ..training.detex import Detex, DetexConfig
    from ..training.loop import Training

    shared: dict[str, Any] = {"placeholder": "<x>", "class_word": CLASS_WORD, "batch_size": 1}
    backbone, pictures = Backbone(model, clip), encoded(latents)
    with backbone.session((2, 4, latents, latents)):
        plain = CustomDiffusionConfig(**shared, zoom=False)
        same = CustomDiffusionPictures(pictures.upright, pictures.mirrored, prior=pictures.prior)
        custom = CustomDiffusion(plain, backbone, same)
        detex = Detex(DetexConfig(**shared), backbone, pictures)
        custom.projections = detex.projections  # a session computes with one set of copies
        without = copy(detex)
        without.config = replace(detex.config, attention_weight=0.0)

        def step_of(learner: Any) -> Callable[[], None]:
            def draw(_: int, generator: Any) -> Any:
                return learner.draw(backbone, generator)

            return Training(learner, plain, backbone, draw)._one_step

        learners = {CUSTOM: custom, DETEX: detex, NO_MAPS: without}
        yield {name: step_of(learner) for name, learner in learners.items()}


def encoded(latents: int) -> Any:
    """Random pictures as a training gets them, with class pictures and DETEX's views."""
    import torch

    from ..host.latents import LatentPosterior
    from ..training.detex import DetexPictures
    from ..training.pictures import EncodedPictures

    def some(seed: int) -> EncodedPictures:
        means = random_latents(PICTURES, latents, seed)
        return EncodedPictures(LatentPosterior(means, torch.zeros_like(means)), None)

    embeddings = torch.randn(PICTURES, 768, generator=torch.Generator().manual_seed(2))
    masks = torch.zeros(PICTURES, 8 * latents, 8 * latents)
    masks[:, 2 * latents : 6 * latents, 2 * latents : 6 * latents] = 1
    return DetexPictures(
        **vars(some(0)), prior=some(1), embeddings=embeddings, masks=masks, blanked=some(3)
    )


class Plain:
    """Custom Diffusion as diffusers' own script computes it: both prompts encoded at every step."""

    def __init__(self, checkpoint: Path, latents: int) -> None:
        import torch
        from comfy import sd1_clip

        from ..tests.training.reference import SD1, Reference

        tokenizer = Path(sd1_clip.__file__).parent / "sd1_tokenizer"
        self.reference = Reference(checkpoint, SD1, tokenizer, words=1).to(device_of_host())
        table: Any = self.reference.text.embeddings.token_embedding.table
        start = self.reference.tokenizer("ucd").input_ids[1:-1]
        self.word = table[start].clone().requires_grad_(True)
        names = (".attn2.to_k.", ".attn2.to_v.")
        self.weights = [
            weight.requires_grad_(True)
            for name, weight in self.reference.unet.named_parameters()
            if any(part in name for part in names)
        ]
        self.optimizer = torch.optim.AdamW([self.word, *self.weights], lr=1e-5, weight_decay=1e-2)
        both = torch.cat([random_latents(1, latents, seed) for seed in (0, 1)]) * 0.18215
        self.latents = both.to(device_of_host())
        self.generator = torch.Generator().manual_seed(0)

    def step(self) -> None:
        import torch

        device = self.latents.device
        noise = torch.randn(self.latents.shape, generator=self.generator).to(device)
        t = torch.randint(1000, (2,), generator=self.generator).to(device)
        prompts = [f"photo of a <v0> {CLASS_WORD}", f"photo of a {CLASS_WORD}"]
        with as_diffusers_trains():
            context = self.reference.context(self.word, prompts)
            noisy = self.reference.scheduler.add_noise(self.latents, noise, cast(Any, t))
            errors = (self.reference.unet(noisy, t, context).sample - noise).square()
        loss = errors[:1].mean() + errors[1:].mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


# --- measuring --------------------------------------------------------------------------------


def measured(step: Callable[[], None]) -> Cost:
    reset_peak()
    before, began, used = memory()["now"], time.perf_counter(), time.process_time()
    step()
    synchronize()
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    return Cost(seconds, processor, memory()["peak"] - before)


def report(costs: dict[str, list[Cost]], latents: int, rounds: int) -> str:
    """The medians of what each way took, as a table, and what the attention loss adds."""
    middle = {
        name: Cost(*(median(getattr(c, f) for c in many) for f in ("seconds", "processor", "gib")))
        for name, many in costs.items()
    }
    lines = [
        f"{latents * 8} px ({latents} x {latents} latents), 1 picture and 1 of the class, "
        f"{conditions()}, medians of {rounds} rounds",
        "",
        "| | s a step | processor s | of diffusers | GiB a step adds |",
        "|---|---|---|---|---|",
    ]
    for name, cost in middle.items():
        share = cost.processor / middle[PLAIN].processor
        numbers = cost.seconds, cost.processor, share, cost.gib
        lines.append(f"| {name} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")
    added = middle[DETEX].processor / middle[NO_MAPS].processor - 1
    return "\n".join([*lines, "", f"the attention loss adds {added:.1%} of processor seconds"])
