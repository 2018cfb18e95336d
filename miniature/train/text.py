"""Teach the text tower more captions, the people's names above all: python -m miniature.train.text.

Continues from `train.clip` with captions alone, far cheaper than pictures: rows at the end of a
caption and in its padding must tell the factors that the caption tells. Afterwards the tower is
frozen, and `train.vision` fits the vision tower to it.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from ..cache import folder, world_people
from ..models import clip
from ..models.vocabulary import Vocabulary
from ..world.captions import caption
from ..world.factors import told_labels
from ..world.scene import random_person, random_scene
from .encode import trained_pair
from .loop import Batch, Plan, Run


def caption_batches(
    words: Vocabulary, batch: int, device: torch.device, step: int
) -> Iterator[Batch]:
    people = world_people()
    while True:
        rng = np.random.default_rng([61, step])
        rows = []
        for _ in range(batch):
            named = rng.random() < 0.35
            scene = (
                random_person(rng, people[rng.integers(len(people))])
                if named
                else random_scene(rng, people)
            )
            told = caption(scene, rng)
            rows.append((*words.encode(told.text, 77), told_labels(scene, told.told)))
        end = torch.tensor([r[1] for r in rows])
        length = 77 if rng.random() < 0.08 else min(77, int(end.max()) + 3)
        ids = torch.tensor([r[0][:length] for r in rows])
        yield tuple(t.to(device) for t in (ids, end, torch.tensor([r[2] for r in rows])))
        step += 1


def loss(pair: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    ids, end, told = batch
    assert isinstance(pair, clip.Pair)
    with torch.autocast(ids.device.type, torch.bfloat16):
        hidden = pair.text.hidden(ids)
        rows = torch.arange(len(ids), device=ids.device)
        late = end + 1 + (torch.rand(len(ids), device=ids.device) * (ids.shape[1] - 1 - end)).long()
        first = clip.factor_loss(pair.text_heads(hidden[rows, end]), told)
        second = clip.factor_loss(
            pair.text_heads(hidden[rows, late.clamp(max=ids.shape[1] - 1)]), told
        )
    return first + second, {"end": float(first.detach()), "padding": float(second.detach())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = folder(args.cache)
    pair, words = trained_pair(root)
    pair.train().requires_grad_(True)
    pair.vision.requires_grad_(False)
    pair.vision_heads.requires_grad_(False)
    pair.text.text_projection.requires_grad_(False)
    pair.logit_scale.requires_grad_(False)
    fixed = torch.zeros(pair.text.token_embedding.num_embeddings, 1, device=device)
    fixed[: len(words.ids)] = 1
    pair.text.token_embedding.weight.register_hook(lambda grad: grad * fixed)
    plan = Plan(
        args.steps, args.minutes, 1.2e-3, ema=0.98, log_every=20, warmup=20, weight_decay=0.0
    )
    run = Run(root / "text", pair, plan, device)
    run.train(lambda step: caption_batches(words, args.batch, device, step), loss)


if __name__ == "__main__":
    main()
