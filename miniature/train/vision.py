"""Fit the vision tower to the frozen text tower: python -m miniature.train.vision --minutes 10."""

import argparse
from typing import cast

import torch

from ..cache import folder
from ..models import clip
from .clip import Source, held_out_pairs, retrieval
from .encode import trained_pair
from .loop import Plan, Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = folder(args.cache)
    source = Source(root, args.shards, args.batch, device)
    pair, words = trained_pair(root)
    pair.train().requires_grad_(True)
    pair.text.requires_grad_(False)
    pair.text.text_projection.requires_grad_(True)
    pair.text_heads.requires_grad_(False)
    plan = Plan(
        args.steps, args.minutes, 8e-4, ema=0.99, log_every=20, warmup=40, weight_decay=0.001
    )
    pairs = tuple(t.to(device) for t in held_out_pairs(words, 200))
    Run(root / "vision", pair, plan, device).train(
        source.batches,
        clip.loss,
        lambda pair: {"retrieval": retrieval(cast(clip.Pair, pair), pairs)},
        100,
    )


if __name__ == "__main__":
    main()
