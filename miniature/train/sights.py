"""What the vision tower is trained on: rendered pictures, masks, and embeddings of captions.

Run as `python -m miniature.train.sights --shards 30` to render and encode ahead of the training.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..cache import Shards, fill, folder, world_people
from ..files import load_pair
from ..measure_vision import GRID, alone, random_views, text_embeddings
from ..world.captions import caption
from ..world.factors import labels
from ..world.render import render
from ..world.scene import CLASSES, random_scene
from .clip import spoil
from .loop import Batch

SHARD = 2000
NAME = "sights"
BESIDE = len(CLASSES)
"""Class of a patch that shows no subject."""


def shard(index: int, names: list[str]) -> tuple[np.ndarray, list]:
    """Pictures with the subject's mask as a fourth channel; a row is [labels, caption]."""
    rng = np.random.default_rng([22, index])
    scenes = [random_scene(rng, names) for _ in range(SHARD)]
    pictures = [np.dstack(render(scene)) for scene in scenes]
    return np.stack(pictures), [[labels(s), caption(s, rng).text] for s in scenes]


def rendered(root: Path, shards: int) -> Shards:
    result = Shards(root / NAME, "train")
    names = world_people()
    fill(result, shards, lambda index: shard(index, names))
    return result


def caption_embeddings(root: Path, shards: Shards) -> list[np.ndarray]:
    """Embeddings of each shard's captions, kept beside the pictures."""
    store = Shards(root / NAME, "captions")
    pair = load_pair()
    for rows in shards.extras()[len(store.files()) :]:
        store.add(text_embeddings(pair, [text for _, text in rows]).half().numpy())
        print(len(store.files()), "captions", flush=True)
    return store.arrays()


def class_embeddings() -> Tensor:
    """Embeddings of "a photo of a mug" and the other classes, (classes, width)."""
    return text_embeddings(load_pair(), [f"a photo of a {name}" for name in CLASSES])


def moved(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Turned, scaled and shifted as when measured, on black, stretched or mirrored borders.

    (n, 4, h, w), the mask among the channels.
    """
    grid = random_views(pictures, generator)
    beside = ("zeros", "border", "reflection")[int(torch.randint(3, (), generator=generator))]
    colours = F.grid_sample(pictures[:, :3], grid, padding_mode=beside, align_corners=False)
    mask = F.grid_sample(pictures[:, 3:], grid, align_corners=False)
    return torch.cat([colours, mask], 1)


class Sights:
    """Batches: pictures (n, 3, 128, 128), caption embeddings, labels, class of each patch (n, 64),
    whether the caption still tells the picture (n,)."""

    MOVED, ALONE = 0.5, 0.2

    def __init__(self, root: Path, shards: int, batch: int) -> None:
        store = rendered(root, shards)
        self.pictures, self.captions = store.arrays(), caption_embeddings(root, store)
        self.labels = [torch.tensor([row[0] for row in rows]) for rows in store.extras()]
        self.batch = batch

    def batches(self, step: int) -> Iterator[Batch]:
        while True:
            yield self.at(step)
            step += 1

    def at(self, step: int) -> Batch:
        rng = np.random.default_rng([32, step])
        generator = torch.Generator().manual_seed(step)
        chosen = [
            (int(rng.integers(len(self.pictures))), int(rng.integers(SHARD)))
            for _ in range(self.batch)
        ]
        pictures = np.stack([self.pictures[s][i] for s, i in chosen])
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(255)
        shifted, single = int(self.MOVED * len(x)), int(self.ALONE * len(x))
        first = slice(0, shifted)
        x[first] = moved(x[first], generator)
        lonely = slice(shifted - single // 2, shifted + single // 2)
        x[lonely] = alone(x[lonely], generator)
        told = torch.ones(len(x), dtype=torch.bool)
        told[lonely] = False
        seen = spoil(x[:, :3], generator)
        facts = torch.stack([self.labels[s][i] for s, i in chosen])
        texts = torch.from_numpy(np.stack([self.captions[s][i] for s, i in chosen])).float()
        return seen, texts, facts, patch_classes(x[:, 3:], facts[:, 0]), told


def patch_classes(masks: Tensor, kinds: Tensor) -> Tensor:
    """The class that each patch shows, BESIDE where there is no subject, -1 where it is both."""
    share = F.adaptive_avg_pool2d(masks, GRID).flatten(1)  # (n, 64)
    kind = kinds[:, None].expand_as(share)
    return torch.where(share > 0.5, kind, torch.where(share < 0.05, BESIDE, -1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=30)
    parser.add_argument("--cache")
    args = parser.parse_args()
    root = folder(args.cache)
    for n in range(args.shards):
        print(len(rendered(root, n + 1).files()), "shards", flush=True)
    caption_embeddings(root, rendered(root, 0))


if __name__ == "__main__":
    main()
