"""Train the autoencoder: python -m miniature.train.vae --minutes 40.

With --grow the trained one gets more channels and goes on; its latents stay near where they were.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..cache import Shards, fill, folder
from ..models import vae
from ..world.render import render
from ..world.scene import random_scene
from .encode import averaged
from .loop import Batch, Plan, Run

SHARD = 2000
OUTER = ("taesd_encoder.0.", "taesd_encoder.14.", "taesd_decoder.1.", "taesd_decoder.19.")


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


def anchored(stream: Iterator[Batch], narrow: nn.Module) -> Iterator[Batch]:
    """Each batch with the latents that `narrow` gives it."""
    for (x,) in stream:
        with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16):
            z = narrow.encode(x).float()  # type: ignore[operator]
        yield x, z


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--grow", action="store_true", help="go on with more channels")
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
    narrow = vae.Autoencoder()
    net, name = narrow, "vae"
    plan = Plan(
        args.steps, args.minutes, learning_rate=2e-3, ema=0.998, weight_decay=0.0, log_every=100
    )
    if args.grow:
        averaged(root, "vae", narrow).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        net, name = vae.grown(narrow), "vae_grown"
        plan = replace(plan, learning_rate=5e-4, muon=True, hold=0.2, outer=OUTER)
    run = Run(root / name, net.to(memory_format=torch.channels_last), plan, device)  # type: ignore[call-overload]

    def batches(step: int) -> Iterator[Batch]:
        stream = crops(train, 64, args.batch, device, step)
        return anchored(stream, narrow) if args.grow else stream

    run.train(batches, vae.loss, lambda net: {"psnr": vae.psnr(net, test)})


if __name__ == "__main__":
    main()
