"""Train the decoder alone, the latents being fixed: python -m miniature.train_decoder --minutes 15.

Runs beside the training of the UNet, which no longer depends on it.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from . import vae
from .cache import Shards, folder
from .encode import trained_vae
from .loop import Batch, Plan, Run
from .train_judges import to_tensor

CROP = 8


def batches(root: Path, batch: int, device: torch.device, step: int) -> Iterator[Batch]:
    """Crops of cached latents (b, 4, 8, 8) and of their pictures (b, 3, 64, 64)."""
    latents = Shards(root / "latents", "train").arrays()
    pictures = Shards(root / "pictures", "train").arrays()
    while True:
        rng = np.random.default_rng([71, step])
        zs, xs = [], []
        for _ in range(batch):
            s = rng.integers(1, len(latents))
            i, (v, u) = rng.integers(len(latents[s])), rng.integers(0, 17 - CROP, 2)
            zs.append(latents[s][i, :, v : v + CROP, u : u + CROP])
            xs.append(pictures[s][i, 8 * v : 8 * (v + CROP), 8 * u : 8 * (u + CROP)])
        yield torch.from_numpy(np.stack(zs)).float().to(device), to_tensor(np.stack(xs)).to(device)
        step += 1


def loss(net: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    z, x = batch
    with torch.autocast(x.device.type, torch.bfloat16):
        y = net.decode(
            (z + 0.02 * torch.randn_like(z)).contiguous(memory_format=torch.channels_last)
        ).float()  # type: ignore[operator]
    square = F.mse_loss(y, x)
    edges = sum(F.l1_loss(torch.diff(y, dim=d), torch.diff(x, dim=d)) for d in (2, 3))
    total = square + 0.01 * F.l1_loss(y, x) + 0.01 * edges
    return total, {"psnr": float(-10 * torch.log10(square.detach()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = folder(args.cache)
    net = trained_vae(root).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.train()
    net.taesd_decoder.requires_grad_(True)
    test = to_tensor(np.array(Shards(root / "pictures", "train").arrays()[0][:64])).to(device)
    plan = Plan(
        args.steps, args.minutes, 1.2e-3, ema=0.998, log_every=100, warmup=100, weight_decay=0.0
    )
    Run(root / "decoder", net, plan, device).train(
        lambda step: batches(root, args.batch, device, step),
        loss,
        lambda net: {"psnr": vae.psnr(net, test)},
    )


if __name__ == "__main__":
    main()
