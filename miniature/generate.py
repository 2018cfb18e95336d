"""Pictures from captions with the parts as trained, without the host's nodes: for measuring."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from . import files
from .comfy_pack.vocabulary import HOST_ROWS
from .models import unet, vae
from .models.clip import Pair
from .models.vocabulary import Vocabulary
from .train.encode import averaged, texts, trained_pair, trained_vae
from .train.unet import latent_scale


@dataclass
class Family:
    """All parts of the miniature on one device."""

    pair: Pair
    words: Vocabulary
    net: nn.Module
    autoencoder: vae.Autoencoder
    scale: float
    device: torch.device

    def encode(self, captions: list[str]) -> torch.Tensor:
        """(n, 77, width)"""
        coded = texts(self.pair, self.words, captions, self.device)
        return torch.from_numpy(coded).float().to(self.device)

    @torch.no_grad()
    def pictures(
        self,
        captions: list[str],
        steps: int = 25,
        guidance: float = 4.0,
        seed: int = 0,
        batch: int = 50,
    ) -> torch.Tensor:
        """(n, 3, 128, 128) in 0..1, on the CPU."""
        empty = self.encode([""])
        parts = []
        for k in range(0, len(captions), batch):
            context = self.encode(captions[k : k + batch])
            z = unet.sample(self.net, context, empty, steps, guidance, seed + k)
            parts.append(self.autoencoder.decode(z / self.scale).clamp(0, 1).float().cpu())
        return torch.cat(parts)


def family(root: Path | None = None, device: torch.device | None = None) -> Family:
    """All parts from the committed files, or from the training states in a cache folder."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if root is None:
        net, scale = files.load_unet()
        words = Vocabulary(list(range(HOST_ROWS)))
        pair, autoencoder = files.load_pair(), files.load_autoencoder()
    else:
        pair, words = trained_pair(root)
        net, scale = averaged(root, "unet", unet.build()), latent_scale(root)
        autoencoder = trained_vae(root)
    parts = (pair.to(device), words, net.to(device), autoencoder.to(device))
    return Family(*parts, scale, device)
