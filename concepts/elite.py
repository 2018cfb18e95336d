"""An ELITE encoder (Wei et al. 2023): mappers from vision features to words and to local features,
and the keys' and values' projections that came to be with them.

All networks are pure functions over dictionaries of tensors under the published names, so that the
same tensors can be read from a file, used, trained and saved.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from .errors import ConceptFileError, shown
from .schema import SchemaError, text, whole_number
from .tensors import digest_of
from .vision import VisionShape

DEPTHS = (1, 1 / 6, 1 / 3, 1 / 2, 2 / 3)
"""Layers 24, 4, 8, 12, 16 of CLIP ViT-L/14, which the mappers read, as parts of its depth."""

BRANCHES = len(DEPTHS)
"""Of a mapper, one for each layer that it reads; the first gives the primary word."""

LINEAR = (0, 3, 6)  # Linear, LayerNorm, LeakyReLU, Linear, LayerNorm, LeakyReLU, Linear
NORM = (1, 4)
MOST_VISION = 2**16  # width, layers or patches of a vision encoder

MapperWeights = Mapping[str, Tensor]
"""By the published names."""

ProjectionPairs = Mapping[str, tuple[Tensor, Tensor]]
"""Keys' and values' weights by the host's path of a transformer block."""


@dataclass(frozen=True)
class EliteStage:
    """What one of the two trainings made: the global or the local one.

    mapper: `mapping_{i}.{0,1,3,4,6}.*` for the class token, `mapping_patch_{i}.*` for the patches;
        empty in an encoder that came with a concept, which can be drawn with and no more
    projections: (to_k, to_v) weights by the host's path of a transformer block, such as
        `input_blocks.1.1.transformer_blocks.0`, each (channels, text_width)
    """

    mapper: MapperWeights
    projections: ProjectionPairs

    @cached_property
    def digest(self) -> str:
        """Tells these tensors from others; the type they are stored in counts."""
        return digest_of(stage_tensors(self))


def read_layers(shape: VisionShape) -> list[int]:
    """Hidden states that the mappers read, 0 being the embeddings: 24, 4, 8, 12, 16 of 24.

    Encoders of another depth are read at the same parts of their depth.
    """
    return [max(1, round(part * shape.layers)) for part in DEPTHS]


@dataclass(frozen=True, eq=False)
class EliteEncoder:
    """A trained encoder. Without a local stage it makes words only.

    vision: the vision encoder that its mappers expect
    known_digest: the digest of the whole, of one that came with a concept
    """

    name: str
    base: str
    text_width: int
    vision: VisionShape
    global_stage: EliteStage
    local_stage: EliteStage | None = None
    known_digest: str = ""

    @cached_property
    def digest(self) -> str:
        """Tells this encoder from others; concepts name theirs by it."""
        if self.known_digest:
            return self.known_digest
        local = self.local_stage.digest if self.local_stage else ""
        return encoder_digest(self.global_stage.digest, local)


def as_type(encoder: EliteEncoder, dtype: torch.dtype) -> EliteEncoder:
    """The encoder with all its tensors in another type, such as fp16 for a small file."""

    def cast(stage: EliteStage) -> EliteStage:
        pairs = stage.projections.items()
        return EliteStage(
            {name: tensor.to(dtype) for name, tensor in stage.mapper.items()},
            {path: (to_k.to(dtype), to_v.to(dtype)) for path, (to_k, to_v) in pairs},
        )

    local = encoder.local_stage
    return replace(
        encoder, global_stage=cast(encoder.global_stage), local_stage=local and cast(local)
    )


def encoder_digest(global_stage: str, local_stage: str) -> str:
    """The digest of an encoder from those of its stages."""
    return hashlib.sha256(f"{global_stage} {local_stage}".encode()).hexdigest()


def stage_tensors(stage: EliteStage) -> dict[str, Tensor]:
    """All tensors of a stage by name, as our file has them."""
    weights = by_path(stage.projections).items()
    return {**stage.mapper, **{f"{path}.weight": weight for path, weight in weights}}


def by_path(projections: ProjectionPairs) -> dict[str, Tensor]:
    """Keys' and values' weights by the host's path of their layer, ``<block>.attn2.to_k``."""
    return {
        f"{block}.attn2.to_{letter}": weight
        for block, pair in projections.items()
        for letter, weight in zip("kv", pair, strict=True)
    }


@dataclass(frozen=True)
class EncoderReference:
    """Which encoder a concept was made with, as its record says. vision: None when it does not"""

    name: str
    digest: str
    vision: VisionShape | None


def encoder_reference(training: Mapping[str, Any]) -> EncoderReference | None:
    """What a concept's record says of its encoder, None for nothing. Raises ConceptFileError."""
    said = training.get("encoder")
    if said is None:
        return None
    try:
        if not isinstance(said, Mapping):
            raise SchemaError(f"'encoder', which is '{shown(said)}' in the place of a description")
        name, digest = text(said, "name", ""), text(said, "digest", "")
        return EncoderReference(name, digest, _vision(said) if "vision" in said else None)
    except SchemaError as error:
        raise ConceptFileError(
            f"The concept's record of its encoder lacks or garbles {error}. Save it again."
        ) from error


def _vision(said: Mapping[str, Any]) -> VisionShape:
    numbers = said["vision"]
    if not isinstance(numbers, list | tuple) or len(numbers) != 3:
        raise SchemaError(f"'vision', which is '{shown(numbers)}' in the place of three numbers")
    named: dict[str, Any] = dict(zip(("width", "layers", "patches"), numbers, strict=True))
    return VisionShape(*(whole_number(named, key, 1, MOST_VISION) for key in named))


_EMBEDDED = "encoder."
_EMBEDDED_NAME = re.compile(r"encoder\.(global|local)\.(.+)\.attn2\.to_([kv])\.weight")


def embedded_tensors(encoder: EliteEncoder) -> dict[str, Tensor]:
    """The encoder's projections by name, as a concept file has them: all it takes to draw."""
    stages = {"global": encoder.global_stage, "local": encoder.local_stage}
    return {
        f"{_EMBEDDED}{key}.{name}": tensor
        for key, stage in stages.items()
        if stage
        for name, tensor in stage_tensors(EliteStage({}, stage.projections)).items()
    }


def split_embedded(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, ProjectionPairs], dict[str, Tensor]]:
    """A concept file's embedded projections by stage, and its other tensors.

    Raises ConceptFileError where a key comes without its value.
    """
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    others: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _EMBEDDED_NAME.fullmatch(name)
        if match is None:
            others[name] = tensor
        else:
            found.setdefault(match[1], {}).setdefault(match[2], {})[match[3]] = tensor
    for stage in found.values():
        for path, pair in stage.items():
            if set(pair) != {"k", "v"}:
                raise ConceptFileError(
                    f"The concept lacks the key or value projection of {path} of its encoder. It "
                    "may be cut off: copy or download it again."
                )
    projections: dict[str, ProjectionPairs] = {
        key: {path: (pair["k"], pair["v"]) for path, pair in sorted(stage.items())}
        for key, stage in found.items()
    }
    return projections, others


def mapper_shapes(vision_width: int, text_width: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a mapper."""
    wide = vision_width
    shapes: dict[str, tuple[int, ...]] = {}
    for branch in range(BRANCHES):
        for prefix in (f"mapping_{branch}", f"mapping_patch_{branch}"):
            for index in LINEAR:
                out = text_width if index == LINEAR[-1] else wide
                shapes[f"{prefix}.{index}.weight"] = (out, wide)
                shapes[f"{prefix}.{index}.bias"] = (out,)
            for index in NORM:
                shapes[f"{prefix}.{index}.weight"] = (wide,)
                shapes[f"{prefix}.{index}.bias"] = (wide,)
    return shapes


def branch(mapper: MapperWeights, prefix: str, x: Tensor) -> Tensor:
    """One MLP of a mapper, (..., vision_width) -> (..., text_width)."""
    for linear, norm in zip(LINEAR, NORM, strict=False):
        x = _linear(mapper, f"{prefix}.{linear}", x)
        weight, bias = _weights(mapper, f"{prefix}.{norm}", x)
        x = F.leaky_relu(F.layer_norm(x, x.shape[-1:], weight, bias))
    return _linear(mapper, f"{prefix}.{LINEAR[-1]}", x)


def map_words(mapper: MapperWeights, features: Tensor, count: int = BRANCHES) -> Tensor:
    """w_i = MLP_i(CLS) + mean over the patches of MLP'_i(patch) (ELITE, section 3.2).

    features: (5, B, 1 + P, vision_width). Returns (B, count, text_width), the primary word first.
    """
    words = [
        branch(mapper, f"mapping_{i}", features[i, :, 0])
        + branch(mapper, f"mapping_patch_{i}", features[i, :, 1:]).mean(dim=1)
        for i in range(count)
    ]
    return torch.stack(words, dim=1)


def map_patches(mapper: MapperWeights, features: Tensor) -> Tensor:
    """e = mean over the layers of MLP_i(CLS) + MLP'_i(patches) (ELITE, section 3.3).

    features: (5, B, 1 + P, vision_width) of the masked picture. Returns (B, P, text_width).
    """
    layers = [
        branch(mapper, f"mapping_{i}", features[i, :, :1])
        + branch(mapper, f"mapping_patch_{i}", features[i, :, 1:])
        for i in range(BRANCHES)
    ]
    return torch.stack(layers).mean(dim=0)


def mask_patches(local: Tensor, mask: Tensor) -> Tensor:
    """e * m: local features (B, P, d) under masks (B, 1, h, w), taken nearest at the patch grid."""
    cells = F.interpolate(mask, patch_grid(local.shape[1]))
    return local * rearrange(cells, "b 1 h w -> b (h w) 1")


def patch_grid(patches: int) -> tuple[int, int]:
    """Rows and columns of a vision encoder's patches, whose pictures are squares."""
    side = math.isqrt(patches)
    return side, side


def word_ratio(
    q: Tensor, k: Tensor, rows: Tensor, heads: int, logsumexp: Tensor | None = None
) -> Tensor:
    """R = p(q, w) / max p, p the share of its attention that a query gives to the word.

    q: (B, N, heads * d); k: (B, T, heads * d)
    rows: of the word in k, (B, r), several count together; -1 for none, where a sample has fewer
    logsumexp: over all keys, (B, heads, N, 1) in fp32; without it all logits are computed for it
    The maximum is over all queries and heads of a sample, never over the batch. Returns
    (B, heads, N, 1) in fp32.
    """
    q, k = _split(q, heads), _split(k, heads)
    scale, places = q.shape[-1] ** -0.5, rows[:, None]  # (B, 1, r)
    found = places.clamp(min=0) if rows.shape[1] > 1 else places
    if logsumexp is None:
        logits = ((q * scale) @ k.transpose(2, 3)).float()  # (B, heads, N, T)
        logsumexp = logits.logsumexp(dim=-1, keepdim=True)
        word = logits.take_along_dim(found[:, :, None], dim=-1)
    else:
        named = k.take_along_dim(found[..., None], dim=2) * scale  # (B, heads, r, d)
        word = (q @ named.transpose(2, 3)).float()
    if rows.shape[1] > 1:  # (B, heads, N, r)
        word = word.masked_fill(places[:, :, None] < 0, -torch.inf)
        word = word.logsumexp(dim=-1, keepdim=True)
    log_p = word - logsumexp
    return (log_p - log_p.amax(dim=(1, 2), keepdim=True)).exp()


def weighted(out: Tensor, ratio: Tensor) -> Tensor:
    """Rows of an attention's output (B, N, heads * d), each head's times its (B, heads, N, 1)."""
    rows = out.unflatten(-1, (ratio.shape[1], -1))  # (B, N, heads, d)
    return (rows * ratio.transpose(1, 2).to(out)).flatten(2)


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _linear(mapper: MapperWeights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, *_weights(mapper, name, x))


def _weights(mapper: MapperWeights, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    return mapper[f"{name}.weight"].to(x), mapper[f"{name}.bias"].to(x)
