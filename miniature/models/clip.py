"""Text and vision towers: CLIP's architecture with the host's key names.

The host's own layers add in place and cannot be trained through, so these are plain modules whose
state dicts the host loads; a test holds both to the same output.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ..comfy_pack.vocabulary import SPREAD
from ..world.factors import FACTORS

POSITIONS = 77
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Shape:
    """Shape of the pair; `text_config` and `vision_config` give it in the host's words."""

    width: int = 128
    heads: int = 4
    text_layers: int = 8
    vision_layers: int = 10
    patch: int = 16
    size: int = 128

    def text_config(self) -> dict:
        return {
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.text_layers,
            "intermediate_size": 4 * self.width,
            "hidden_act": "quick_gelu",
            "max_position_embeddings": POSITIONS,
            "eos_token_id": 49407,
            "projection_dim": self.width,
            "model_type": "clip_text_model",
        }

    def vision_config(self) -> dict:
        return {
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.vision_layers,
            "intermediate_size": 4 * self.width,
            "hidden_act": "quick_gelu",
            "model_type": "clip_vision_model",
            "image_size": self.size,
            "patch_size": self.patch,
            "num_channels": 3,
            "projection_dim": self.width,
        }


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        b, n, c = x.shape
        split = (b, n, self.heads, c // self.heads)
        q, k, v = (
            p(x).view(split).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        logits = q @ k.transpose(-1, -2) / math.sqrt(c // self.heads)
        if mask is not None:
            logits = logits + mask
        return self.out_proj((logits.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        stack = [Layer(width, heads) for _ in range(layers)]
        self.layers = nn.ModuleList(stack)
        for layer in stack:
            for linear in (layer.self_attn.out_proj, layer.mlp.fc2):
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5 * (2 * layers) ** -0.5)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


class TextTower(nn.Module):
    """rows: how many word rows are trained (known words, then a few fixed stand-ins)."""

    def __init__(self, shape: Shape, rows: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(rows, shape.width)
        self.position_embedding = nn.Embedding(POSITIONS, shape.width)
        self.encoder = Encoder(shape.width, shape.heads, shape.text_layers)
        self.final_layer_norm = nn.LayerNorm(shape.width)
        self.text_projection = nn.Linear(shape.width, shape.width, bias=False)
        nn.init.normal_(self.token_embedding.weight, std=SPREAD)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (b, n) -> what the UNet is conditioned on, (b, n, width)."""
        n = ids.shape[1]
        x = self.token_embedding(ids) + self.position_embedding.weight[:n]
        mask = torch.full((n, n), -1e9, device=x.device).triu_(1)
        return self.final_layer_norm(self.encoder(x, mask).float())


class VisionTower(nn.Module):
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(0.02 * torch.randn(shape.width))
        self.patch_embedding = nn.Conv2d(3, shape.width, shape.patch, shape.patch, bias=False)
        self.position_embedding = nn.Embedding((shape.size // shape.patch) ** 2 + 1, shape.width)
        self.pre_layrnorm = nn.LayerNorm(shape.width)
        self.encoder = Encoder(shape.width, shape.heads, shape.vision_layers)
        self.post_layernorm = nn.LayerNorm(shape.width)
        self.visual_projection = nn.Linear(shape.width, shape.width, bias=False)
        nn.init.normal_(self.position_embedding.weight, std=0.02)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def embedded(self, pictures: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """What the first layer gets: the class token, then the patches; (b, 1 + patches, width).

        kept: (b, n), which patches; None for all
        """
        x = self.patch_embedding((pictures - self.mean) / self.std).flatten(2).transpose(1, 2)
        x = x + self.position_embedding.weight[1:]
        if kept is not None:
            x = x.take_along_dim(kept[..., None], 1)
        first = (self.class_embedding + self.position_embedding.weight[0]).to(x.dtype)
        return self.pre_layrnorm(torch.cat([first.expand(len(x), 1, -1), x], 1))

    def pooled(self, pictures: torch.Tensor) -> torch.Tensor:
        """pictures (b, 3, 128, 128) in 0..1 -> (b, width)."""
        return self.post_layernorm(self.encoder(self.embedded(pictures))[:, 0].float())


class Pair(nn.Module):
    """Both towers, and heads that read factors from each: they help training and are dropped."""

    def __init__(self, shape: Shape, rows: int) -> None:
        super().__init__()
        self.text, self.vision = TextTower(shape, rows), VisionTower(shape)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))
        total = sum(len(options) for options in FACTORS.values())
        self.text_heads = nn.Linear(shape.width, total)
        self.vision_heads = nn.Linear(shape.width, total)

    def embed_text(self, ids: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        x = self.text.hidden(ids)[torch.arange(len(ids), device=ids.device), end]
        return F.normalize(self.text.text_projection(x).float(), dim=-1)

    def embed_picture(self, pictures: torch.Tensor) -> torch.Tensor:
        return F.normalize(
            self.vision.visual_projection(self.vision.pooled(pictures)).float(), dim=-1
        )


def factor_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over factors of the cross entropy.

    logits (b, all options), labels (b, factors), -1 unknown.
    """
    losses = []
    for k, part in enumerate(logits.float().split([len(v) for v in FACTORS.values()], dim=1)):
        count = (labels[:, k] >= 0).sum().clamp(min=1)
        losses.append(F.cross_entropy(part, labels[:, k], ignore_index=-1, reduction="sum") / count)
    return torch.stack(losses).mean()


def contrastive(
    logit_scale: torch.Tensor, texts: torch.Tensor, pictures: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """CLIP's symmetric loss of unit embeddings (b, width), pair n in row n, and its logits (b, b):
    texts by pictures.
    """
    logits = logit_scale.exp().clamp(max=100) * texts @ pictures.T
    target = torch.arange(len(texts), device=texts.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2, logits


def loss(pair: nn.Module, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, float]]:
    """Contrastive loss and the factor heads, the text's read at the end and at a padding row."""
    ids, end, pictures, labels, told = batch
    assert isinstance(pair, Pair)
    with torch.autocast(pictures.device.type, torch.bfloat16):
        rows = torch.arange(len(ids), device=ids.device)
        hidden = pair.text.hidden(ids)
        pad = (
            end + 1 + (torch.rand(len(ids)) * (ids.shape[1] - 1 - end.cpu())).long().to(end.device)
        )
        words = hidden[rows, end]
        padding = hidden[rows, pad.clamp(max=ids.shape[1] - 1)]
        seen = pair.vision.pooled(pictures)
        t = F.normalize(pair.text.text_projection(words).float(), dim=-1)
        v = F.normalize(pair.vision.visual_projection(seen).float(), dim=-1)
        heads = factor_loss(pair.text_heads(words), told) + 0.5 * factor_loss(
            pair.text_heads(padding), told
        )
        heads = heads + factor_loss(pair.vision_heads(seen), labels)
    contrast, logits = contrastive(pair.logit_scale, t, v)
    hits = (logits.argmax(1) == torch.arange(len(t), device=t.device)).float().mean()
    return contrast + heads, {
        "clip": float(contrast.detach()),
        "heads": float(heads.detach()),
        "top1": float(hits),
    }
