"""ELITE on real SD1.5 shapes with random weights: a sampling step, and the encoding of a picture.

    make bench ARGS="elite --latents 64 --rounds 2"
    make bench ARGS="elite --latents 64 --only attention"      no checkpoint, seconds

Compared, in one process and in turn, each sampling two steps with a prompt and a negative:
    stock       the model without a concept
    ours        with the concept, as Apply Concept hands it on
    plain       with the concept, by an attention that keeps every map in memory
The first step of a run loads and patches the weights; the second one is what is compared. Encoding
is compared with the vision encoder alone on as many pictures: the picture and its masked copy.
Before both, the 16 cross attentions of one step alone, from queries, keys and values on: with the
host's attention, with torch's kernel, which the host takes on a GPU and which tells the logsumexp
that the ratio needs; and how many operations each is made of, since a GPU waits for each launch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .costs import conditions, device_of_host, synchronize

if TYPE_CHECKING:
    from torch import Tensor

PROMPT = "a photo of <x> on the beach"
BLOCKS = ((320, 1, 5), (640, 2, 5), (1280, 4, 5), (1280, 8, 1))
"""Channels, latents a query and number of SD1.5's cross attentions."""
VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "hidden_act": "quick_gelu",
    "num_channels": 3,
    "patch_size": 14,
    "image_size": 224,
    "projection_dim": 768,
}


@dataclass(frozen=True)
class Cost:
    seconds: float
    processor: float
    flops: float = 0.0


PARTS = ("attention", "encoding", "step")


def compare(
    load: Callable[[], tuple[Any, Any]], latents: int, rounds: int, parts: Sequence[str] = PARTS
) -> str:
    """Run each part's variants in turn, after one round to warm up; return the report.

    load: MODEL and CLIP, when they are needed
    """
    title = f"{latents * 8} px, prompt and negative, {conditions()}, medians of {rounds} rounds"
    lines = [title]
    if "attention" in parts:
        for kernel in ("the host's", "torch's"):
            with attention_of(kernel):
                every = attentions(latents)
                costs = in_turn(
                    {name: partial(measured, run) for name, run in every.items()}, rounds
                )
                lines += ["", *table(f"16 cross attentions, {kernel} kernel", costs)]
                counts = (f"{name} {operations(run)}" for name, run in every.items())
                lines += ["", f"operations: {', '.join(counts)}"]
    if "encoding" in parts or "step" in parts:
        lines += of_a_model(*load(), latents, rounds, parts)
    return "\n".join(lines)


def of_a_model(model: Any, clip: Any, latents: int, rounds: int, parts: Sequence[str]) -> list[str]:
    from ..samplers.apply import apply_concept
    from ..tests.elite_models import clip_vision
    from ..training.elite.encoding import encode_elite

    vision, encoder, lines = clip_vision(**VISION), random_encoder(model), list[str]()
    picture, mask = pictures()
    twice = picture.repeat(2, 1, 1, 1)
    encoding = {
        "vision forwards": lambda: measured(lambda: vision.encode_image(twice)),
        "ELITE Encode": lambda: measured(lambda: encode_elite(encoder, vision, picture, mask)),
    }
    if "encoding" in parts:
        lines += ["", *table("encoding", in_turn(encoding, rounds))]
    if "step" in parts:
        concept = encode_elite(encoder, vision, picture, mask, placeholder="<x>")
        applied, words = apply_concept(model, clip, concept)
        models = {"stock": model, "ours": applied, "plain": plain_model(model, words, concept)}
        sampling = {name: lambda m=m: second_step(m, words, latents) for name, m in models.items()}
        lines += ["", *table("a sampling step", in_turn(sampling, rounds))]
    return lines


@contextmanager
def attention_of(kernel: str) -> Iterator[None]:
    """A block in which the patches of cross attention find torch's kernel, or the host's own."""
    from ..host import attention

    chosen = attention.optimized_attention
    if kernel == "torch's":
        attention.optimized_attention = attention.attention_pytorch
    try:
        yield
    finally:
        attention.optimized_attention = chosen


def operations(run: Callable[[], Any]) -> int:
    """How many operations of torch a call is made of, views left out: about a GPU's launches."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            self.count += not func.is_view
            return func(*args, **(kwargs or {}))

    with Counting() as counting, torch.no_grad():
        run()
    return counting.count


def attentions(latents: int) -> dict[str, Callable[[], None]]:
    """The cross attentions of a step on random queries, as the host calls them."""
    import torch

    from ..host.attention import cross_attention
    from ..samplers.local_attention import Details, LocalAttention, LocalPart

    generator = torch.Generator().manual_seed(0)
    device = device_of_host()
    rand = lambda *shape: torch.randn(*shape, generator=generator).to(device)  # noqa: E731
    named: Any = SimpleNamespace(placeholder="<x>")
    features = rand(256, 768)
    part = LocalPart(named, features, Details(0.8), 0.8)
    options = {"n_heads": 8, "cond_or_uncond": [1, 0], "uuids": ["negative", "prompt"]}
    told = {**options, part.key: {(0, "prompt"): (5,)}}
    calls: dict[str, list[Callable[[], Any]]] = {"stock": [], "ours": [], "plain": []}
    for channels, shrink, count in BLOCKS:
        queries = (latents // shrink) ** 2
        q, k, v = rand(2, queries, channels), rand(2, 77, channels), rand(2, 77, channels)
        pair = rand(channels, 768) / 28, rand(channels, 768) / 28
        ours = LocalAttention(part, pair).wrap(None)
        plain = PlainAttention(features, pair, 5)
        calls["stock"] += [partial(cross_attention, q, k, v, options)] * count
        calls["ours"] += [partial(ours, q, k, v, told)] * count
        calls["plain"] += [partial(plain, q, k, v, options)] * count

    @torch.inference_mode()
    def run(name: str) -> None:
        for call in calls[name]:
            call()

    return {name: partial(run, name) for name in calls}


def in_turn(runs: dict[str, Callable[[], Cost]], rounds: int) -> dict[str, Cost]:
    """Medians of the costs, after one round to warm up."""
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for n in range(1 + rounds):
        for name, run in runs.items():
            cost = run()
            if n:
                costs[name].append(cost)
    return {name: middle(all_) for name, all_ in costs.items()}


def middle(costs: list[Cost]) -> Cost:
    return Cost(*(median(column) for column in zip(*map(astuple, costs), strict=True)))


class Meter:
    """Cost of what runs between `start` and `stop`.

    Operations are counted on the CPU alone, where each takes far longer than to count it; on a GPU
    the counting would be most of the time.
    """

    def __init__(self) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        on_cpu = device_of_host().type == "cpu"
        self.counter = FlopCounterMode(display=False) if on_cpu else None

    def start(self) -> None:
        if self.counter is not None:
            self.counter.__enter__()
        synchronize()
        self.began, self.used = time.perf_counter(), time.process_time()

    def stop(self) -> Cost:
        synchronize()
        seconds, processor = time.perf_counter() - self.began, time.process_time() - self.used
        if self.counter is None:
            return Cost(seconds, processor)
        self.counter.__exit__(None, None, None)
        return Cost(seconds, processor, float(self.counter.get_total_flops()))


def measured(run: Callable[[], Any]) -> Cost:
    meter = Meter()
    meter.start()
    run()
    return meter.stop()


def second_step(model: Any, clip: Any, latents: int) -> Cost:
    """Sample two steps, as KSampler does; what the second one costs."""
    import torch
    from comfy import sample

    positive, negative = (
        clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (PROMPT, "")
    )
    noise = torch.randn(1, 4, latents, latents, generator=torch.Generator().manual_seed(0))
    meter, costs = Meter(), list[Cost]()

    def after_step(step: int, *_: Any) -> None:
        if step == 0:
            meter.start()
        else:
            costs.append(meter.stop())

    with torch.inference_mode():
        sample.sample(
            model, noise, 2, 5.0, "euler", "normal", positive, negative, torch.zeros_like(noise),
            callback=after_step, disable_pbar=True, seed=0,
        )  # fmt: skip
    return costs[0]


def table(what: str, costs: dict[str, Cost]) -> list[str]:
    first = next(iter(costs.values()))
    lines = [
        f"| {what} | s | ratio | processor s | ratio | GFLOP | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        cells = (
            f"{cost.seconds:.3f} | {cost.seconds / first.seconds:.3f}",
            f"{cost.processor:.3f} | {cost.processor / first.processor:.3f}",
            f"{cost.flops / 1e9:.1f} | {cost.flops / first.flops:.3f}" if first.flops else "- | -",
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


# --- random parts -----------------------------------------------------------------------------


def random_encoder(model: Any) -> Any:
    """An encoder of the official shapes."""
    import torch

    from ..concepts.elite import EliteEncoder, EliteStage, mapper_shapes
    from ..concepts.vision import VisionShape
    from ..tests.elite_models import moved, random_weights, weights_of

    own = weights_of(model)
    shapes = {name: torch.Size(shape) for name, shape in mapper_shapes(1024, 768).items()}
    stages = [EliteStage(random_weights(shapes, n), moved(own, n)) for n in range(2)]
    return EliteEncoder("random", "sd1", 768, VisionShape(1024, 24, 256), stages[0], stages[1])


def pictures() -> tuple[Tensor, Tensor]:
    """A picture of 512 px and the mask of a subject in its middle."""
    import torch

    mask = torch.zeros(1, 512, 512)
    mask[:, 96:416, 96:416] = 1
    return torch.rand(1, 512, 512, 3, generator=torch.Generator().manual_seed(0)), mask


# --- a plain implementation -------------------------------------------------------------------


def plain_model(model: Any, clip: Any, concept: Any) -> Any:
    """The MODEL with the global projections, and a plain attention in every block."""
    from ..host.attention import patch_place
    from ..samplers.elite import with_projections
    from ..samplers.mentions import MENTIONS

    clone = with_projections(model, concept.encoder, 1.0)
    ((_, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
    (row,) = extra[MENTIONS][concept.placeholder]
    for path, pair in concept.encoder.local_stage.projections.items():
        patch = PlainAttention(concept.tensors["local"], pair, row)
        clone.set_model_attn2_replace(patch, *patch_place(path))
    return clone


class PlainAttention:
    """softmax(Q K^T / sqrt(d)) V for the prompt and for the patches, keys and values each step."""

    def __init__(self, features: Tensor, projections: tuple[Tensor, Tensor], row: int) -> None:
        self.features, self.projections, self.row = features, projections, row

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
        import torch

        heads = extra_options["n_heads"]
        out, maps = attend(q, k, v, heads)
        size = len(q) // len(extra_options["cond_or_uncond"])
        parts = list(out.split(size))
        n = extra_options["cond_or_uncond"].index(0)
        one = slice(n * size, (n + 1) * size)
        features = self.features.to(q)
        keys, values = (features @ weight.to(q).T for weight in self.projections)
        local, _ = attend(q[one], keys[None], values[None], heads)
        looks = maps[one, :, :, self.row]
        ratio = looks / looks.amax(dim=(1, 2), keepdim=True)  # (B, heads, N)
        rows = local.view(*local.shape[:2], heads, -1) * ratio.transpose(1, 2)[..., None]
        parts[n] = parts[n] + 0.8 * rows.flatten(2)
        return torch.cat(parts)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    q, k, v = (t.view(*t.shape[:2], heads, -1).transpose(1, 2) for t in (q, k, v))
    maps = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1)
    return (maps @ v).transpose(1, 2).flatten(2), maps
