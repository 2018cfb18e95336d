"""Maps in colours, over the picture that they are of."""

import torch
from torch import Tensor

_COLOURS = torch.tensor(
    [[0.0, 0.0, 0.08], [0.35, 0.05, 0.45], [0.85, 0.25, 0.30], [1.0, 0.65, 0.10], [1.0, 1.0, 0.65]]
)
"""From nothing to all, each lighter than the one before, so that greys tell them too."""
_DIMMED = 0.35  # brightness of the picture where a map is nothing
_COVERED = 0.75  # how much of the picture a full map hides


def heat(maps: Tensor) -> Tensor:
    """(n, H, W) in 0..1 -> colours (n, H, W, 3) in 0..1."""
    places = maps.clamp(0, 1) * (len(_COLOURS) - 1)
    below = places.floor().long().clamp(max=len(_COLOURS) - 2)
    part = (places - below)[..., None]
    return _COLOURS[below] * (1 - part) + _COLOURS[below + 1] * part


def heat_over(maps: Tensor, picture: Tensor) -> Tensor:
    """Each map in colours over the picture in grey, (n, H, W) and (H, W, 3) -> (n, H, W, 3)."""
    maps = maps.clamp(0, 1)[..., None]
    grey = picture.mean(dim=-1, keepdim=True)[None] * (_DIMMED + (1 - _DIMMED) * maps)
    return torch.lerp(grey.expand(-1, -1, -1, 3), heat(maps[..., 0]), _COVERED * maps)


def scaled(maps: Tensor, together: bool = False) -> Tensor:
    """Maps (n, H, W) divided by their maximum: by each one's own, or by the largest of all."""
    largest = maps.amax() if together else maps.amax(dim=(1, 2), keepdim=True)
    return maps / torch.clamp(torch.as_tensor(largest), min=1e-12)
