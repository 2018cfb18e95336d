"""What quality is measured with: small networks that know rendered pictures only.

They share no weights with the models they judge. The attribute judge reads the factors of a
picture; the instance judge tells individuals apart whatever their pose and place.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from ..world.factors import FACTORS
from .clip import factor_loss

EMBEDDING = 64


class Residual(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(before, width, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.skip(x))


class Judge(nn.Module):
    """pictures (b, 3, 128, 128) in 0..1 -> (b, outputs)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        widths, strides = (24, 32, 56, 96, 128), (2, 2, 2, 1)
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        shapes = zip(pairwise(widths), strides, strict=True)
        self.blocks = nn.Sequential(*(Residual(*pair, stride) for pair, stride in shapes))
        self.head = nn.Linear(2 * widths[-1], outputs)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.stem(pictures * 4 - 2))
        return self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1).float())


def attribute_judge() -> Judge:
    return Judge(sum(len(options) for options in FACTORS.values()))


def instance_judge() -> Judge:
    return Judge(EMBEDDING)


def attribute_loss(
    net: nn.Module, batch: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, dict[str, float]]:
    pictures, labels = batch
    with torch.autocast(pictures.device.type, torch.bfloat16):
        logits = net(pictures)
    return factor_loss(logits, labels), {}


def instance_loss(
    net: nn.Module, batch: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, dict[str, float]]:
    """Two views of each individual, (2 b, 3, 128, 128): view i belongs to view b + i."""
    (pictures,) = batch
    with torch.autocast(pictures.device.type, torch.bfloat16):
        e = F.normalize(net(pictures).float(), dim=-1)
    a, b = e.chunk(2)
    logits = a @ b.T * 16.0
    target = torch.arange(len(a), device=a.device)
    top = (logits.argmax(1) == target).float().mean()
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2, {
        "top1": float(top)
    }


@torch.no_grad()
def read_attributes(net: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """(n, factors): the option the judge sees for each factor, in the order of FACTORS."""
    logits = torch.cat([net(x) for x in pictures.split(64)])
    return torch.stack(
        [p.argmax(1) for p in logits.split([len(v) for v in FACTORS.values()], 1)], 1
    )


@torch.no_grad()
def embed_instances(net: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """(n, 64) unit vectors; their dot product is the likeness of two individuals, -1 to 1."""
    return F.normalize(torch.cat([net(x) for x in pictures.split(64)]), dim=-1)
