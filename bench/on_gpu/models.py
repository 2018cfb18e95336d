"""The models of the GPU bench, of random weights made on the spot: SD1.5's shapes, or tiny ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...cli.comfyui import ROOT
from .. import random_weights

CHECKPOINT, VISION, SAM = "random.safetensors", "random_vision.safetensors", "random_sam.pth"


@dataclass(frozen=True)
class Size:
    """What a bench computes with. packs: more node packs that its models need, by name."""

    title: str
    pixels: int
    tiny: bool
    packs: Mapping[str, Path]

    def make(self, models: Path) -> None:
        """Write the files into a models folder; those that are there stay. The host is imported."""
        makers = {
            models / "checkpoints" / CHECKPOINT: self._checkpoint,
            models / "clip_vision" / VISION: self._vision,
            models / "sams" / SAM: self._sam,
        }
        for path, make in makers.items():
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                make(path)

    def _checkpoint(self, path: Path) -> None:
        from ...tests import host_models

        if self.tiny:
            host_models.make_checkpoint(path, "sd1")
        else:
            random_weights.make_sd15(path, vae=True)

    def _vision(self, path: Path) -> None:
        from ...tests import elite_models

        random_weights.make_vision(path, elite_models.VISION if self.tiny else None)

    def _sam(self, path: Path) -> None:
        from ...tests.sam_models import save_sam

        if self.tiny:
            save_sam(path)
        else:
            random_weights.make_sam(path)


REAL = Size("SD1.5's shapes", 512, False, {})
TINY = Size("tiny shapes", 64, True, {"tiny_models": ROOT / "tests" / "host_models"})
