"""Encode the rendered set once the autoencoder and the text tower are frozen.

python -m miniature.train.encode latents      python -m miniature.train.encode texts
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from ..cache import Shards, folder
from ..models import vae
from ..models.clip import Pair
from ..models.vocabulary import Vocabulary
from . import data
from .clip import fresh_pair, vocabulary


def averaged(root: Path, part: str, module: torch.nn.Module) -> torch.nn.Module:
    """The running average that a training has saved, ready for use."""
    state = torch.load(root / part / "state.pt", map_location="cpu", weights_only=True)
    module.load_state_dict(state["ema"])
    return module.eval().requires_grad_(False)


def trained_vae(root: Path) -> vae.Autoencoder:
    """The autoencoder as far as it is trained: narrow, or grown and trained on."""
    wide = (root / "vae_grown" / "state.pt").exists()
    part, widths = ("vae_grown", vae.GROWN) if wide else ("vae", vae.NARROW)
    net = averaged(root, part, vae.Autoencoder(widths))
    assert isinstance(net, vae.Autoencoder)
    return net


def trained_pair(root: Path) -> tuple[Pair, Vocabulary]:
    """The pair as far as it is trained together: `text` follows `clip`."""
    words = vocabulary(root, [])
    part = next(p for p in ("text", "clip") if (root / p / "state.pt").exists())
    pair = averaged(root, part, fresh_pair(words))
    assert isinstance(pair, Pair)
    return pair, words


@torch.no_grad()
def latents(net: vae.Autoencoder, pictures: np.ndarray, device: torch.device) -> np.ndarray:
    """pictures (n, 128, 128, 3) uint8 -> (n, 4, 16, 16) fp16."""
    parts = []
    for k in range(0, len(pictures), 50):
        x = (
            torch.from_numpy(np.array(pictures[k : k + 50]))
            .to(device)
            .permute(0, 3, 1, 2)
            .float()
            .div(255)
        )
        with torch.autocast(device.type, torch.bfloat16):
            z = net.encode(x.contiguous(memory_format=torch.channels_last))
        parts.append(z.half().cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def texts(pair: Pair, words: Vocabulary, captions: list[str], device: torch.device) -> np.ndarray:
    """(n, 77, width) fp16: what the UNet is conditioned on."""
    parts = []
    for k in range(0, len(captions), 50):
        ids = torch.tensor([words.encode(c, 77)[0] for c in captions[k : k + 50]], device=device)
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(pair.text.hidden(ids).half().cpu().numpy())
    return np.concatenate(parts)


def encode_latents(root: Path, device: torch.device) -> None:
    net = trained_vae(root).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    store = Shards(root / "latents", "train")
    source = data.pictures(root, 0)
    for file in source.files()[len(store.files()) :]:
        store.add(latents(net, np.load(file, mmap_mode="r"), device))
        print(len(store.files()), "latents", flush=True)


def encode_texts(root: Path, device: torch.device, captions: int) -> None:
    pair, words = trained_pair(root)
    pair.to(device)
    store = Shards(root / "texts", "train")
    for extra in data.pictures(root, 0).extras()[len(store.files()) :]:
        each = [
            texts(pair, words, [row[1][c][0] for row in extra], device) for c in range(captions)
        ]
        store.add(np.stack(each, 1))  # (n, captions, 77, width)
        print(len(store.files()), "texts", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["latents", "texts"])
    parser.add_argument("--captions", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.what == "latents":
        encode_latents(folder(args.cache), device)
    else:
        encode_texts(folder(args.cache), device, args.captions)


if __name__ == "__main__":
    main()
