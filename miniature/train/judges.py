"""Train a judge: python -m miniature.train.judges attribute --minutes 8, or instance."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..cache import Shards, fill, folder, world_people
from ..models import judges
from ..world.factors import FACTORS, labels
from ..world.render import render
from ..world.scene import random_individual, random_scene, views
from . import data
from .clip import spoil
from .loop import Batch, Plan, Run

GROUP, VIEWS, GROUPS = 4, 4, 125


def individuals_shard(index: int) -> tuple[np.ndarray, list]:
    """(500 individuals, 4 views, 128, 128, 3), in groups of 4 that are hard to tell apart."""
    rng = np.random.default_rng([51, index])
    pictures = []
    for _ in range(GROUPS):
        first = random_individual(rng, "person" if rng.random() < 0.3 else None)
        group = [first, *(random_individual(rng, like=first) for _ in range(GROUP - 1))]
        pictures += [np.stack([render(v)[0] for v in views(rng, one, VIEWS)]) for one in group]
    return np.stack(pictures), []


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """(n, 128, 128, 3) uint8 -> (n, 3, 128, 128) in 0..1."""
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div(255)
    return x.contiguous(memory_format=torch.channels_last)


def jitter(x: torch.Tensor, step: int, device: torch.device) -> torch.Tensor:
    """Blur, noise and a change of brightness, as generated pictures have."""
    generator = torch.Generator().manual_seed(step)
    gain = 1 + 0.08 * torch.randn(len(x), 3, 1, 1, generator=generator).clamp(-2, 2) * 0.6
    return (spoil(x, generator) * gain).clamp(0, 1).to(device, memory_format=torch.channels_last)


def attribute_batches(
    root: Path, shards: int, batch: int, device: torch.device, step: int
) -> Iterator[Batch]:
    store = data.pictures(root, shards)
    pictures, extras = store.arrays(), store.extras()
    while True:
        rng = np.random.default_rng([52, step])
        chosen = [(rng.integers(len(pictures)), rng.integers(data.SHARD)) for _ in range(batch)]
        x = to_tensor(np.stack([pictures[s][i] for s, i in chosen]))
        yield jitter(x, step, device), torch.tensor([extras[s][i][0] for s, i in chosen]).to(device)
        step += 1


def instance_batches(
    arrays: list[np.ndarray], batch: int, device: torch.device, step: int
) -> Iterator[Batch]:
    while True:
        rng = np.random.default_rng([53, step])
        pairs = []
        for _ in range(batch // GROUP):
            shard = arrays[rng.integers(len(arrays))]
            start = GROUP * rng.integers(len(shard) // GROUP)
            group = range(start, start + GROUP)
            pairs += [shard[one][rng.permutation(VIEWS)[:2]] for one in group]
        both = np.stack(pairs)
        yield (jitter(to_tensor(np.concatenate([both[:, 0], both[:, 1]])), step, device),)
        step += 1


def fresh_scenes(count: int, seed: int = 99) -> tuple[torch.Tensor, torch.Tensor]:
    """Rendered pictures that no training saw, and their labels."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, world_people(), training=bool(k % 2)) for k in range(count)]
    return to_tensor(np.stack([render(s)[0] for s in scenes])), torch.tensor(
        [labels(s) for s in scenes]
    )


def accuracy(net: torch.nn.Module, pictures: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Share of right answers for each factor, where the factor makes sense."""
    seen = judges.read_attributes(net, pictures)
    hits = {}
    for k, name in enumerate(FACTORS):
        known = truth[:, k] >= 0
        hits[name] = float((seen[known, k] == truth[known, k]).float().mean())
    return hits


def instance_scores(net: torch.nn.Module, individuals: np.ndarray) -> dict[str, float]:
    """rank1: the other view comes first among 100 individuals; verify: same or not, at the best
    threshold, half of the pairs being different individuals of one class, colour and pattern."""
    first, second = (judges.embed_instances(net, to_tensor(individuals[:, v])) for v in (0, 1))
    rank = [
        (a @ b.T).argmax(1) == torch.arange(len(a))
        for a, b in zip(first.split(100), second.split(100), strict=True)
    ]
    same = (first * second).sum(1)
    twin = (first * second.view(-1, GROUP, second.shape[1]).roll(1, 1).flatten(0, 1)).sum(1)
    other = (first * second.roll(2 * GROUP, 0)).sum(1)
    best = max(
        ((same > t).float().mean() + (other <= t).float().mean()) / 2
        for t in torch.linspace(-0.5, 1, 151)
    )
    twins = max(
        ((same > t).float().mean() + (twin <= t).float().mean()) / 2
        for t in torch.linspace(-0.5, 1, 151)
    )
    return {
        "rank1": float(torch.cat(rank).float().mean()),
        "verify": float(best),
        "verify_twins": float(twins),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("judge", choices=["attribute", "instance"])
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--shards", type=int, default=10, help="of 2000 pictures each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = folder(args.cache)
    torch.manual_seed(5)
    kept = ("stem.0", "head")
    plan = Plan(args.steps, args.minutes, 3e-3, ema=0.99, warmup=50, muon=True, outer=kept)
    if args.judge == "attribute":
        pictures, truth = (t.to(device) for t in fresh_scenes(400))
        net = judges.attribute_judge().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        Run(root / "attribute", net, plan, device).train(
            lambda step: attribute_batches(root, args.shards, 64, device, step),
            judges.attribute_loss,
            lambda net: accuracy(net, pictures, truth),
            500,
        )
        return
    store = Shards(root / "pictures", "individuals")
    fill(store, args.shards + 1, individuals_shard)
    arrays = store.arrays()
    test = np.array(arrays[-1])
    net = judges.instance_judge().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    Run(root / "instance", net, plan, device).train(
        lambda step: instance_batches(arrays[:-1], 64, device, step),
        judges.instance_loss,
        lambda net: instance_scores(net, test),
        250,
    )


if __name__ == "__main__":
    main()
