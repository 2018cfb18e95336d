"""Train the text and vision towers together: python -m miniature.train.clip --minutes 20."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.nn import functional as F

from ..cache import NAMES_FILE, folder, read_names, world_people
from ..comfy_pack.vocabulary import END, START, unknown_rows
from ..host import tokens
from ..models import clip
from ..models.vocabulary import STAND_INS, Vocabulary
from ..world.captions import caption
from ..world.render import render
from ..world.scene import random_scene
from . import data
from .loop import Batch, Plan, Run

EXTRA_WORDS = """a an the of on in at with and under by to is , . person man woman face portrait
photo picture painting drawing mug ball car house duck fish dog robot teapot boat toy thing object
pose view background"""


def vocabulary(root: Path, extras: list[list]) -> Vocabulary:
    """All words of the captions, fixed at the first call."""
    file = root / "vocabulary.txt"
    if not file.exists():
        texts = {
            word for shard in extras for row in shard for text, _ in row[1] for word in text.split()
        }
        texts |= set(EXTRA_WORDS.split()) | {w for name in world_people() for w in name.split()}
        ids = sorted({t for word in texts for t in tokens(word)} | {START, END})
        file.write_text("\n".join(map(str, ids)))
    return Vocabulary([int(line) for line in file.read_text().split()])


def spoil(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur half of the pictures a little and add some noise: decoded pictures are never perfect."""
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    amount = torch.rand(len(pictures), 1, 1, 1, generator=generator).mul(1.6).sub(0.6).clamp(min=0)
    noise = torch.rand(len(pictures), 1, 1, 1, generator=generator) * 0.04
    pictures = pictures + amount * (blurred - pictures)
    return (pictures + noise * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)


class Source:
    """Batches from the rendered set."""

    def __init__(self, root: Path, shards: int, batch: int, device: torch.device) -> None:
        store = data.pictures(root, shards)
        self.pictures, extras = store.arrays(), store.extras()
        self.vocabulary = vocabulary(root, extras)
        self.rows = [[self.prepare(row) for row in shard] for shard in extras]
        self.batch, self.device = batch, device

    def prepare(self, row: list) -> tuple:
        told = [
            (np.array(self.vocabulary.encode(t, 77)[0]), self.vocabulary.encode(t, 77)[1], k)
            for t, k in row[1]
        ]
        return row[0], told

    def batches(self, step: int) -> Iterator[Batch]:
        while True:
            rng = np.random.default_rng([31, step])
            generator = torch.Generator().manual_seed(step)
            chosen = [
                (rng.integers(len(self.pictures)), rng.integers(data.SHARD))
                for _ in range(self.batch)
            ]
            pictures = torch.from_numpy(np.stack([self.pictures[s][i] for s, i in chosen]))
            rows = [self.rows[s][i] for s, i in chosen]
            told = [r[1][rng.integers(len(r[1]))] for r in rows]
            ids, end = (
                torch.from_numpy(np.stack([t[0] for t in told])),
                torch.tensor([t[1] for t in told]),
            )
            self.strange(ids, end, rng)
            length = 77 if rng.random() < 0.06 else min(77, int(end.max()) + 3)
            x = spoil(pictures.permute(0, 3, 1, 2).float().div(255), generator)
            batch = (
                ids[:, :length].contiguous(),
                end,
                x,
                torch.tensor([r[0] for r in rows]),
                torch.tensor([t[2] for t in told]),
            )
            yield tuple(t.to(self.device) for t in batch)
            step += 1

    def strange(self, ids: torch.Tensor, end: torch.Tensor, rng: np.random.Generator) -> None:
        """Put an unknown word into one caption in twelve."""
        for k in np.flatnonzero(rng.random(len(ids)) < 1 / 12):
            e = int(end[k])
            if e < 60:
                at = int(rng.integers(1, e + 1))
                ids[k, at + 1 :] = ids[k, at:-1].clone()
                ids[k, at] = len(self.vocabulary.ids) + int(rng.integers(STAND_INS))
                end[k] += 1


def held_out_pairs(vocabulary: Vocabulary, count: int) -> Batch:
    """ids, end, pictures of combinations that are never trained on."""
    rng = np.random.default_rng(77)
    scenes = [random_scene(rng, world_people(), training=False) for _ in range(count)]
    coded = [vocabulary.encode(caption(scene, rng).text, 77) for scene in scenes]
    pictures = torch.from_numpy(np.stack([render(scene)[0] for scene in scenes]))
    return (
        torch.tensor([c[0] for c in coded]),
        torch.tensor([c[1] for c in coded]),
        pictures.permute(0, 3, 1, 2).float().div(255),
    )


@torch.no_grad()
def retrieval(pair: clip.Pair, pairs: Batch, group: int = 100) -> float:
    """Share of captions whose picture comes first among `group`."""
    ids, end, pictures = pairs
    hits = []
    for k in range(0, len(ids) - group + 1, group):
        s = np.s_[k : k + group]
        scores = pair.embed_text(ids[s, :40], end[s]) @ pair.embed_picture(pictures[s]).T
        hits.append((scores.argmax(1) == torch.arange(group, device=scores.device)).float().mean())
    return float(torch.stack(hits).mean())


def fresh_pair(vocabulary: Vocabulary) -> clip.Pair:
    torch.manual_seed(2)
    pair = clip.Pair(clip.Shape(), len(vocabulary.ids) + STAND_INS)
    names = {t for name in read_names(NAMES_FILE) for t in tokens(name)}
    strangers = [t for t in range(1000, 49000) if t not in vocabulary.row and t not in names]
    stand_ins = unknown_rows(pair.text.token_embedding.embedding_dim)[
        strangers[:: len(strangers) // STAND_INS]
    ]
    with torch.no_grad():
        pair.text.token_embedding.weight[len(vocabulary.ids) :] = stand_ins[:STAND_INS]
    fixed = torch.zeros(len(vocabulary.ids) + STAND_INS, 1)
    fixed[: len(vocabulary.ids)] = 1
    pair.text.token_embedding.weight.register_hook(lambda grad: grad * fixed.to(grad.device))
    return pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = folder(args.cache)
    source = Source(root, args.shards, args.batch, device)
    plan = Plan(
        args.steps,
        args.minutes,
        learning_rate=1e-3,
        ema=0.99,
        log_every=20,
        warmup=60,
        weight_decay=0.001,
    )
    run = Run(root / "clip", fresh_pair(source.vocabulary), plan, device)
    pairs = tuple(t.to(device) for t in held_out_pairs(source.vocabulary, 200))
    run.train(
        source.batches,
        clip.loss,
        lambda pair: {"retrieval": retrieval(cast(clip.Pair, pair), pairs)},
        100,
    )


if __name__ == "__main__":
    main()
