"""Train the autoencoder: python -m miniature.train_vae --minutes 40."""

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from . import vae
from .cache import Shards, fill, folder
from .loop import Batch, Plan, Run
from .world.render import render
from .world.scene import random_scene

SHARD = 2000


def scenes_shard(index: int) -> tuple[np.ndarray, list]:
    rng = np.random.default_rng([11, index])
    return np.stack([render(random_scene(rng, []))[0] for _ in range(SHARD)]), []


def crops(
    arrays: list[np.ndarray], size: int, batch: int, device: torch.device, step: int
) -> Iterator[Batch]:
    while True:
        rng = np.random.default_rng([12, step])
        out = np.empty((batch, size, size, 3), np.uint8)
        for i in range(batch):
            a = arrays[rng.integers(len(arrays))]
            y, x = rng.integers(0, 128 - size + 1, 2) if size < 128 else (0, 0)
            out[i] = a[rng.integers(len(a)), y : y + size, x : x + size]
        x = torch.from_numpy(out).to(device).permute(0, 3, 1, 2).float().div(255)
        yield (x.contiguous(memory_format=torch.channels_last),)
        step += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = folder(args.cache)
    shards = Shards(root / "pictures", "vae")
    fill(shards, args.shards, scenes_shard)
    arrays = shards.arrays()
    test = (
        torch.from_numpy(np.array(arrays[-1][-48:])).permute(0, 3, 1, 2).float().div(255).to(device)
    )
    train = [*arrays[:-1], arrays[-1][:-200]]
    torch.manual_seed(1)
    plan = Plan(
        args.steps, args.minutes, learning_rate=2e-3, ema=0.998, weight_decay=0.0, log_every=100
    )
    net = vae.Autoencoder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(root / "vae", net, plan, device)
    run.train(
        lambda step: crops(train, 64, args.batch, device, step),
        vae.loss,
        lambda net: {"psnr": vae.psnr(net, test)},
    )


if __name__ == "__main__":
    main()
