"""Train the UNet on encoded pictures and captions: python -m miniature.train.unet --minutes 75."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..cache import Shards, folder
from ..models import unet
from .encode import texts, trained_pair
from .loop import Batch, Plan, Run

EMPTY = 0.1
OUTER = ("input_blocks.0.", "out.2.", "time_embed")


def latent_scale(root: Path) -> float:
    """What latents are multiplied with to have unit spread, fixed at the first call."""
    file = root / "latents.json"
    if not file.exists():
        z = Shards(root / "latents", "train").arrays()[0].astype(np.float64)
        file.write_text(json.dumps({"scale": round(float(1 / z.std()), 4)}))
    return json.loads(file.read_text())["scale"]


class Source:
    """Batches of normalised latents and text encodings."""

    def __init__(self, root: Path, batch: int, device: torch.device) -> None:
        self.contexts = Shards(root / "texts", "train").arrays()
        self.scale = latent_scale(root)
        self.latents = [np.array(a) for a in Shards(root / "latents", "train").arrays()]
        count = min(len(self.contexts), len(self.latents))
        self.contexts, self.latents = self.contexts[:count], self.latents[:count]
        pair, words = trained_pair(root)
        self.empty = texts(pair, words, [""], torch.device("cpu"))[0]
        self.batch, self.device = batch, device
        print(count, "shards", flush=True)

    def batches(self, step: int) -> Iterator[Batch]:
        while True:
            rng = np.random.default_rng([41, step])
            z = np.empty((self.batch, 4, 16, 16), np.float32)
            context = np.empty((self.batch, *self.empty.shape), np.float32)
            for n in range(self.batch):
                s = rng.integers(len(self.latents))
                i = rng.integers(len(self.latents[s]))
                z[n] = self.latents[s][i] * np.float32(self.scale)
                texts = self.contexts[s]
                context[n] = (
                    self.empty if rng.random() < EMPTY else texts[i, rng.integers(texts.shape[1])]
                )
            yield torch.from_numpy(z).to(self.device), torch.from_numpy(context).to(self.device)
            step += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, default=14000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = folder(args.cache)
    source = Source(root, args.batch, device)
    torch.manual_seed(3)
    plan = Plan(
        args.steps,
        args.minutes,
        args.rate,
        ema=0.997,
        hold=0.3,
        log_every=50,
        muon=True,
        outer=OUTER,
    )
    run = Run(root / "unet", unet.build(), plan, device)
    run.train(source.batches, unet.loss)


if __name__ == "__main__":
    main()
