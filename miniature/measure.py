"""Measure the miniature: python -m miniature.measure [--captions 500 --steps 50 --guidance 4]."""

import argparse
from pathlib import Path

import numpy as np
import torch

from .cache import folder, world_people
from .files import load_judge
from .generate import Family, family
from .models import vae
from .models.clip import Pair
from .models.judges import attribute_judge, instance_judge, read_attributes
from .train.clip import held_out_pairs, retrieval
from .train.encode import averaged
from .train.judges import accuracy, fresh_scenes, individuals_shard, instance_scores
from .world.captions import caption
from .world.factors import FACTORS, told_labels
from .world.scene import Scene, held_out, random_scene

GOALS = {"kind": 0.90, "colour": 0.90, "background": 0.90, "pose": 0.75, "pattern": 0.75}


def held_out_scenes(count: int, seed: int = 123) -> list[Scene]:
    """Combinations of factors that no training has seen."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, world_people(), training=False) for _ in range(count)]
    assert all(held_out(scene) for scene in scenes)
    return scenes


def told_captions(scenes: list[Scene], seed: int = 124) -> tuple[list[str], torch.Tensor]:
    """A caption each and what it tells, (n, factors), -1 where it is silent."""
    rng = np.random.default_rng(seed)
    told = [caption(scene, rng) for scene in scenes]
    return [c.text for c in told], torch.tensor(
        [told_labels(s, c.told) for s, c in zip(scenes, told, strict=True)]
    )


def agreement(seen: torch.Tensor, told: torch.Tensor) -> dict[str, tuple[float, int]]:
    """For each factor the share of pictures that show what was told, and how many were told."""
    result = {}
    for k, name in enumerate(FACTORS):
        known = told[:, k] >= 0
        if known.any():
            result[name] = (
                float((seen[known, k] == told[known, k]).float().mean()),
                int(known.sum()),
            )
    keys = [list(FACTORS).index(n) for n in ("kind", "colour", "background")]
    joint = ((seen == told) | (told < 0))[:, keys].all(1)
    return {**result, "class, colour, background": (float(joint.float().mean()), len(joint))}


def text_to_image(parts: Family, judge: torch.nn.Module, args: argparse.Namespace) -> dict:
    captions, told = told_captions(held_out_scenes(args.captions))
    pictures = parts.pictures(captions, args.steps, args.guidance, seed=7)
    return agreement(read_attributes(judge, pictures), told)


def print_shares(title: str, shares: dict[str, tuple[float, int]]) -> None:
    print(f"\n{title}")
    for name, (share, count) in shares.items():
        goal = f"   goal {GOALS[name]:.0%}" if name in GOALS else ""
        print(f"  {name:28s} {share:6.1%}  of {count}{goal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["text", "parts"])
    parser.add_argument("--training", action="store_true", help="measure the training states")
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    root = folder(args.cache) if args.training else None
    parts = family(root, torch.device("cpu"))
    judge = get_judge(root, "attribute")
    if args.only != "text":
        measure_parts(parts, judge, get_judge(root, "instance"))
    if args.only != "parts":
        how = f"{args.steps} DDIM steps, guidance {args.guidance}"
        title = f"Text to picture: {args.captions} held-out captions, {how}"
        print_shares(title, text_to_image(parts, judge, args))


def get_judge(root: Path | None, name: str) -> torch.nn.Module:
    if root is None:
        return load_judge(name)
    return averaged(root, name, attribute_judge() if name == "attribute" else instance_judge())


def measure_parts(parts: Family, judge: torch.nn.Module, instances: torch.nn.Module) -> None:
    pictures, truth = fresh_scenes(600)
    print(
        "Attribute judge on rendered pictures:",
        {k: round(v, 3) for k, v in accuracy(judge, pictures, truth).items()},
    )
    test = individuals_shard(10_000)[0]
    print("Instance judge:", instance_scores(instances, test))
    print(f"Autoencoder: {vae.psnr(parts.autoencoder, pictures):.2f} dB PSNR")
    rebuilt = torch.cat(
        [parts.autoencoder.decode(parts.autoencoder.encode(x)) for x in pictures[:200].split(50)]
    )
    print(
        "Attribute judge on rebuilt pictures:",
        {k: round(v, 3) for k, v in accuracy(judge, rebuilt.clamp(0, 1), truth[:200]).items()},
    )
    pair: Pair = parts.pair
    print(f"Retrieval among 100: {retrieval(pair, held_out_pairs(parts.words, 500)):.1%}")


if __name__ == "__main__":
    main()
