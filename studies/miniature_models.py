"""The miniature as the host loads it, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..miniature.files import CHECKPOINT, VISION, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..training.sources import Sources

SIZE = 128
STEPS, GUIDANCE = 20, 4.0


@dataclass(frozen=True)
class Miniature:
    model: Any  # MODEL
    clip: Any  # CLIP
    vae: Any  # VAE
    vision: Any  # CLIP_VISION

    def sources(self, images: Sequence[Tensor], **others: Any) -> Sources:
        """What to learn from on these models; others: masks and the like."""
        from ..training.sources import Sources

        models = {"model": self.model, "clip": self.clip, "vae": self.vae}
        return Sources(images=images, clip_vision=self.vision, **models, **others)


def load_miniature(folder: Path = WEIGHTS) -> Miniature:
    """From the committed files, or from files like them; the host is importable already."""
    import torch
    from comfy.sd import load_checkpoint_guess_config

    from ..miniature.comfy_pack.model import register
    from ..miniature.comfy_pack.nodes import load_vision

    register()
    with torch.inference_mode():
        loaded = load_checkpoint_guess_config(str(folder / CHECKPOINT))
        return Miniature(*loaded[:3], load_vision(str(folder / VISION)))
