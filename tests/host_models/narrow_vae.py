"""The host's TAESD with fewer channels, where a checkpoint has fewer.

With its 64, the VAE of the tiny models computes longer than all the rest of them.
"""

from typing import Any

from comfy.taesd import taesd
from torch import nn

WIDTH = 32
_FIRST = "taesd_encoder.0.weight"


class AnyTAESD(taesd.TAESD):
    """As wide as the file that is loaded."""

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        if _FIRST in state_dict:
            narrow(self, len(state_dict[_FIRST]))
        return super().load_state_dict(state_dict, *args, **kwargs)


def narrow(model: nn.Module, width: int = WIDTH) -> nn.Module:
    """Its convolutions with at most so many channels; pictures and latents have fewer anyway."""
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            part.out_channels, part.in_channels = (min(n, width) for n in part.weight.shape[:2])
            kept = part.weight.detach()[: part.out_channels, : part.in_channels].clone()
            part.weight = nn.Parameter(kept)
            if part.bias is not None:
                part.bias = nn.Parameter(part.bias.detach()[: part.out_channels].clone())
    return model


def register() -> None:
    """Make the host's loaders read narrow ones too; a second call does nothing."""
    if taesd.TAESD is not AnyTAESD:
        taesd.TAESD = AnyTAESD
