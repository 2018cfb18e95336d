"""The autoencoder: the TAESD shape of the host, trained narrow, grown, and widened with zeros.

A wider network can begin as the same function as a narrower one: `grown` for further training,
`widened` for the host, whose channels beyond ours carry zeros. Narrow trains several times faster.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

HOST_WIDTH = 64
NARROW = ((16, 32, 64, 64), (64, 64, 48, 24))
GROWN = ((24, 48, 64, 64), (64, 64, 64, 32))
ANCHOR = 0.002  # of the squared distance to the latents before growing


def conv(n_in: int, n_out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, 1, bias=bias)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        last = conv(width, width)
        self.conv = nn.Sequential(
            conv(width, width), nn.ReLU(), conv(width, width), nn.ReLU(), last
        )
        with torch.no_grad():
            last.weight.mul_(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(x) + x)


class Clamp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


class Up(nn.Upsample):
    def __init__(self) -> None:
        super().__init__(scale_factor=2)


def encoder(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = [conv(3, widths[0]), Block(widths[0])]
    for before, width in pairwise(widths):
        layers += [conv(before, width, 2, bias=False), Block(width), Block(width), Block(width)]
    return nn.Sequential(*layers, conv(widths[-1], 4))


def decoder(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = [Clamp(), conv(4, widths[0]), nn.ReLU()]
    for width, after in pairwise(widths):
        layers += [Block(width), Block(width), Block(width), Up(), conv(width, after, bias=False)]
    return nn.Sequential(*layers, Block(widths[-1]), conv(widths[-1], 3))


class Autoencoder(nn.Module):
    """Pictures in 0..1, (b, 3, h, w), and latents of about unit spread, (b, 4, h/8, w/8)."""

    def __init__(self, widths: tuple[tuple[int, ...], tuple[int, ...]] = NARROW) -> None:
        super().__init__()
        self.taesd_encoder, self.taesd_decoder = encoder(widths[0]), decoder(widths[1])
        for m in self.modules():
            if isinstance(m, nn.Conv2d) and m.bias is not None:
                nn.init.zeros_(m.bias)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.taesd_encoder(x)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return self.taesd_decoder(z)


@torch.no_grad()
def grown(narrow: Autoencoder) -> Autoencoder:
    """The same function in the shape GROWN: new channels see everything, nothing sees them yet."""
    wide = Autoencoder(GROWN)
    for key, weight in wide.state_dict().items():
        old = narrow.state_dict()[key]
        if weight.ndim == 4:
            weight[: old.shape[0], old.shape[1] :] = 0
        weight[tuple(slice(n) for n in old.shape)] = old
    return wide


def widened(narrow: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same function in the host's shape; keys as in the host's checkpoint."""
    last = max(int(k.split(".")[1]) for k in narrow if k.startswith("taesd_decoder."))
    end = max(int(k.split(".")[1]) for k in narrow if k.startswith("taesd_encoder."))
    edges = {
        "taesd_encoder.0.": (HOST_WIDTH, 3),
        f"taesd_encoder.{end}.": (4, HOST_WIDTH),
        "taesd_decoder.1.": (HOST_WIDTH, 4),
        f"taesd_decoder.{last}.": (3, HOST_WIDTH),
    }
    result = {}
    for key, value in narrow.items():
        out, inp = next(
            (shape for start, shape in edges.items() if key.startswith(start)),
            (HOST_WIDTH, HOST_WIDTH),
        )
        wide = value.new_zeros((out, inp, *value.shape[2:]) if value.ndim == 4 else (out,))
        wide[tuple(slice(n) for n in value.shape)] = value
        result[key] = wide
    return result


def loss(net: nn.Module, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, float]]:
    """Squared error, with some absolute and edge error, on slightly noisy latents.

    batch: pictures, and, where the latents are to stay where they were, those latents.
    """
    x, *before = batch
    with torch.autocast(x.device.type, torch.bfloat16):
        z = net.encode(x)  # type: ignore[operator]
        noise = (0.02 if before else 0.04) * torch.randn_like(z)
        y = net.decode(z + noise).float()  # type: ignore[operator]
    z = z.float()
    square = F.mse_loss(y, x)
    edges = sum(F.l1_loss(torch.diff(y, dim=d), torch.diff(x, dim=d)) for d in (2, 3))
    if before:
        total = square + 0.01 * F.l1_loss(y, x) + 0.01 * edges + ANCHOR * F.mse_loss(z, before[0])
    else:
        spread = F.relu(z.abs() - 2.0).square().mean() + 0.1 * (z.square().mean() - 1).square()
        total = square + 0.02 * F.l1_loss(y, x) + 0.02 * edges + 0.01 * spread
    figures = {"psnr": float(-10 * torch.log10(square.detach())), "std": float(z.detach().std())}
    if before:
        figures["moved"] = float(F.mse_loss(z.detach(), before[0]).sqrt())
    return total, figures


@torch.no_grad()
def psnr(net: nn.Module, pictures: torch.Tensor) -> float:
    """Mean over pictures (n, 3, h, w) in 0..1 of the PSNR in dB of their reconstructions."""
    values = []
    for x in pictures.split(32):
        y = net.decode(net.encode(x)).clamp(0, 1)  # type: ignore[operator]
        values.append(-10 * torch.log10((y - x).square().mean((1, 2, 3))))
    return float(torch.cat(values).mean())
