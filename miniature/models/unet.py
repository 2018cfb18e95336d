"""The UNet: the host's own class in a small shape, and its training target."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ..host import import_host

CONTEXT = 128
CONFIG: dict = {
    "image_size": 32,
    "use_checkpoint": False,
    "legacy": False,
    "use_spatial_transformer": True,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 3],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "context_dim": CONTEXT,
    "num_heads": 4,
    "num_head_channels": -1,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
}
MIN_SNR = 5.0


def explicit_attention(
    _default, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, mask=None, **_
) -> torch.Tensor:
    """(b, n, heads * d): on CPUs in bf16 three times as fast as the fused kernel."""
    b, n, c = q.shape
    q, k, v = (t.view(b, -1, heads, c // heads).transpose(1, 2) for t in (q, k, v))
    weights = (q @ k.transpose(-1, -2) * (c // heads) ** -0.5).softmax(-1)
    return (weights.to(v.dtype) @ v).transpose(1, 2).reshape(b, n, c)


def build() -> nn.Module:
    """A host UNetModel with every parameter initialised: host models start as raw memory."""
    import_host()
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    net = UNetModel(**CONFIG, dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if name.endswith(("out_layers.3", "proj_out")) or name == "out.2":
            nn.init.zeros_(net.get_parameter(f"{name}.weight"))
    for name, parameter in net.named_parameters():
        if not parameter.isfinite().all():
            raise RuntimeError(f"Parameter {name} was not initialised.")
    return net


def alphas_cumprod() -> torch.Tensor:
    """(1000,): Stable Diffusion's scaled-linear schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def predict(
    net: nn.Module, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor
) -> torch.Tensor:
    """Predicted noise; x (b, 4, h, w), t (b,) in 0..999, context (b, n, width)."""
    options = {"optimized_attention_override": explicit_attention} if x.device.type == "cpu" else {}
    return net(x, timesteps=t, context=context, transformer_options=options)


def loss(net: nn.Module, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, float]]:
    """Squared error of the noise, weighted as min-SNR-5 (Hang et al. 2023)."""
    z, context = batch
    abar = alphas_cumprod().to(z.device)
    # Times spread evenly over the batch: less noise in the loss than independent ones.
    t = (
        ((torch.arange(len(z)) + torch.rand(len(z))) / len(z) * 1000)
        .long()
        .clamp(max=999)
        .to(z.device)
    )
    a = abar[t].view(-1, 1, 1, 1)
    noise = torch.randn_like(z)
    x = a.sqrt() * z + (1 - a).sqrt() * noise
    with torch.autocast(z.device.type, torch.bfloat16):
        eps = predict(net, x, t.float(), context)
    snr = (a / (1 - a)).flatten()
    square = F.mse_loss(eps.float(), noise, reduction="none").mean((1, 2, 3))
    value = (square * snr.clamp(max=MIN_SNR) / snr).mean()
    return value, {"mse": float(square.detach().mean())}


@torch.no_grad()
def sample(
    net: nn.Module,
    context: torch.Tensor,
    empty: torch.Tensor,
    steps: int = 25,
    guidance: float = 4.0,
    seed: int = 0,
    size: int = 16,
) -> torch.Tensor:
    """DDIM with classifier-free guidance: (b, 4, size, size) latents of unit spread."""
    b, device = len(context), context.device
    abar = alphas_cumprod().to(device)
    times = torch.linspace(999, 0, steps + 1).round().long()[:-1].tolist()
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, 4, size, size, generator=generator).to(device)
    both = torch.cat([empty.expand(b, -1, -1), context])
    for now, after in zip(times, [*times[1:], None], strict=True):
        t = torch.full((2 * b,), float(now), device=device)
        with torch.autocast(device.type, torch.bfloat16):
            un, co = predict(net, torch.cat([x, x]), t, both).float().chunk(2)
        eps = un + guidance * (co - un)
        a, a2 = abar[now], abar[after] if after is not None else torch.tensor(1.0, device=device)
        x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
        x = a2.sqrt() * x0 + (1 - a2).sqrt() * eps
    return x
