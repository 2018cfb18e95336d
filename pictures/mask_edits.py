"""Small repairs of a mask: its edge moved, its holes filled, its specks dropped."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def grow(mask: Tensor, pixels: float, soften: float = 0.0) -> Tensor:
    """A mask whose edge lies `pixels` further out, or further in when negative.

    mask: (H, W), the subject where it is above 0.5
    soften: pixels over which the new edge falls from 1 to 0; 0: a hard edge
    Returns (H, W), fp32. Beyond the picture nothing is known: its border is no edge.
    """
    from scipy.ndimage import distance_transform_edt

    inside = (mask > 0.5).numpy()
    if inside.all() or not inside.any():
        return torch.from_numpy(inside).float()
    # signed distance of pixel centres to the edge between the pixels
    out = torch.from_numpy(distance_transform_edt(~inside)) - 0.5
    deep = torch.from_numpy(distance_transform_edt(inside)) - 0.5
    beyond = torch.where(torch.from_numpy(inside), -deep, out) - pixels
    if soften <= 0:
        return (beyond <= 0).float()
    return (0.5 - beyond / soften).clamp(0, 1).float()


def fill_holes(mask: Tensor, largest: float) -> Tensor:
    """Fill the holes that are not larger than a part of the subject's area: 0.01 is a hundredth.

    mask: (H, W), the subject where it is above 0.5. What touches the border is no hole.
    """
    from scipy.ndimage import binary_fill_holes

    inside = (mask > 0.5).numpy()
    parts, count = _parts(binary_fill_holes(inside) & ~inside)
    sizes = torch.bincount(torch.from_numpy(parts).flatten().long(), minlength=count + 1)
    small = sizes <= largest * inside.sum()
    small[0] = False  # the subject and all around it
    return (torch.from_numpy(inside) | small[torch.from_numpy(parts).long()]).float()


def largest_part(mask: Tensor) -> Tensor:
    """The largest connected part of a mask (H, W), corners connecting; an empty one stays so."""
    parts, count = _parts((mask > 0.5).numpy(), corners=True)
    if count < 2:
        return (mask > 0.5).float()
    sizes = torch.bincount(torch.from_numpy(parts).flatten().long())
    return torch.from_numpy(parts == int(sizes[1:].argmax()) + 1).float()


def _parts(inside: Any, corners: bool = False) -> Any:
    """Numbers of the connected parts of a boolean array, from 1, and how many there are."""
    from scipy.ndimage import label

    return label(inside, structure=np.ones((3, 3)) if corners else None)
