"""What happens at random to a picture of an ELITE training: zoomed, turned, shifted, blurred."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, pad

from ...concepts.elite import patch_grid
from ..zoom import resized, uniform

STRETCH = 50 / 224  # of a picture's side, by which three points of it are moved at most
ODDS_OF_STRETCH = 0.3


def disguised(picture: Tensor, flip: bool, stretch: bool, generator: Generator) -> Tensor:
    """What the encoder sees in the global stage: mirrored, turned by up to 20 degrees, blurred,
    stretched.

    The published code stretches with the elastic transform of albumentations 1.3.0 as it comes: a
    random affine map (`alpha_affine` 50 at 224 pixels), which moves pixels by 35 in the mean, and
    then a wave that moves none by a tenth of one. The wave is left out.
    """
    mirrored, turned, angle, blurred = (uniform(generator) for _ in range(4))
    width = 3 + 2 * choice(generator, 3)
    if flip and mirrored < 0.5:
        picture = picture.flip(-1)
    if turned < 0.5:
        picture = warped(picture, _turn((2 * angle - 1) * 20), "reflection")
    if blurred < 0.3:
        picture = blur(picture, width)
    stretched, move = uniform(generator) < ODDS_OF_STRETCH, random_stretch(generator)
    if stretch and stretched:
        picture = warped(picture, move, "reflection")
    return picture


def random_stretch(generator: Generator) -> Tensor:
    """Where a picture is looked up when three of its points are moved at random, (3, 3).

    The points lie a third of the side from its centre, in coordinates of -1..1.
    """
    third = 2 / 3
    points = torch.tensor([[third, third], [third, -third], [-third, -third]])
    moves = (2 * torch.rand(3, 2, generator=generator) - 1) * 2 * STRETCH
    homogeneous = torch.cat([points, torch.ones(3, 1)], dim=1)
    forward = torch.linalg.solve(homogeneous, points + moves).T  # (2, 3): points -> moved points
    whole = torch.cat([forward, torch.tensor([[0.0, 0.0, 1.0]])])
    return torch.linalg.inv(whole)


def moved_subject(
    picture: Tensor, mask: Tensor, side: int, patches: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """What the encoder sees of the subject in the local stage, and its mask on the patches.

    The masked picture, enlarged by up to 256 / 224, turned by up to 30 degrees and shifted by up to
    60 / 224 of its side, each in one case out of two. When nothing would be left under the mask,
    it stays as it is.
    """
    enlarged, turned, shifted = (uniform(generator) < 0.5 for _ in range(3))
    scale, angle = 1 + 32 / 224 * uniform(generator), 60 * uniform(generator) - 30
    room = [(2 * uniform(generator) - 1) * (1 - 1 / scale) for _ in range(2)]
    shift = [(2 * uniform(generator) - 1) * 60 / 224 for _ in range(2)]
    move = torch.eye(3)
    if enlarged:
        move = torch.tensor([[1 / scale, 0, room[0]], [0, 1 / scale, room[1]], [0, 0, 1]])
    if turned:
        move = move @ _turn(angle)
    if shifted:
        move = move @ torch.tensor([[1, 0, -2 * shift[0]], [0, 1, -2 * shift[1]], [0, 0, 1.0]])
    subject = resized(picture * mask, side)
    whole = interpolate(mask[None, None], (side, side), mode="nearest")[0]
    changed = on_patches(warped(whole, move, "zeros", "nearest"), patches)
    if changed.any():
        return warped(subject, move, "zeros"), changed
    return subject, on_patches(whole, patches)


def on_patches(mask: Tensor, patches: int) -> Tensor:
    """A mask (1, h, w) on the encoder's grid, taken nearest."""
    return interpolate(mask[None], patch_grid(patches), mode="nearest")[0]


def warped(picture: Tensor, move: Tensor, beside: str, mode: str = "bilinear") -> Tensor:
    """A picture (C, h, w) looked up at moved places; move: (3, 3), in coordinates of -1..1."""
    grid = affine_grid(move[None, :2], [1, *picture.shape], align_corners=False)
    moved = grid_sample(picture[None], grid, mode, beside, align_corners=False)
    return moved[0]


def blur(picture: Tensor, width: int) -> Tensor:
    """Mean over squares of an odd number of pixels."""
    padded = pad(picture[None], [width // 2] * 4, mode="reflect")
    return avg_pool2d(padded, width, stride=1)[0]


def _turn(degrees: float) -> Tensor:
    angle = torch.tensor(degrees).deg2rad()
    cos, sin = float(angle.cos()), float(angle.sin())
    return torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def choice(generator: Generator, count: int) -> int:
    """A number from 0 to below `count`."""
    return int(torch.randint(count, (), generator=generator))
