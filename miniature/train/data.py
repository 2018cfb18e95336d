"""The rendered training set: pictures with two captions each, kept in the cache folder.

Run as `python -m miniature.train.data --shards 50` to render ahead of the trainings.
"""

import argparse
from pathlib import Path

import numpy as np

from ..cache import Shards, fill, folder, world_people
from ..world.captions import caption
from ..world.factors import labels, told_labels
from ..world.render import render
from ..world.scene import Scene, random_scene

SHARD = 2000
CAPTIONS = 2


def row(scene: Scene, rng: np.random.Generator) -> list:
    """[labels, [[caption, told labels], ...]]"""
    told = [caption(scene, rng) for _ in range(CAPTIONS)]
    return [labels(scene), [[c.text, told_labels(scene, c.told)] for c in told]]


def shard(index: int, names: list[str]) -> tuple[np.ndarray, list]:
    rng = np.random.default_rng([21, index])
    scenes = [random_scene(rng, names) for _ in range(SHARD)]
    pictures = np.stack([render(scene)[0] for scene in scenes])
    return pictures, [row(scene, rng) for scene in scenes]


def pictures(root: Path, shards: int) -> Shards:
    """The training set with at least this many shards, rendered as needed."""
    result = Shards(root / "pictures", "train")
    names = world_people()
    fill(result, shards, lambda index: shard(index, names))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=50)
    parser.add_argument("--cache")
    args = parser.parse_args()
    for n in range(args.shards):
        print(len(pictures(folder(args.cache), n + 1).files()), "shards", flush=True)


if __name__ == "__main__":
    main()
