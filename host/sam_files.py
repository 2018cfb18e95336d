"""Checkpoints of SAM (Kirillov et al. 2023): tensors read weights-only, the network told from them.

Nothing is taken from a file's name. ViT-B, ViT-L, ViT-H and any other depth and width are read
alike, also where a trainer put the tensors under a prefix of its own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..concepts.errors import ConceptFileError, shown
from ..concepts.pickles import read_pickle
from ..concepts.tensor_files import read_tensors
from ..concepts.tensors import is_finite

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_EXPECTED = (
    " Expected a checkpoint of Segment Anything, the first version, such as sam_vit_b_01ec64.pth."
)
_MARK = "image_encoder.pos_embed"
_DECODER_HEADS = 8  # of every SAM; the tensors do not tell

_RELATIVES = {
    "mask_decoder.hf_token.weight": "an HQ-SAM",
    "image_encoder.patch_embed.seq.0.c.weight": "a MobileSAM",
    "image_encoder.trunk.pos_embed": "a SAM 2",
    "vision_encoder.pos_embed": "a SAM under the names of transformers",
    "detector.backbone.vision_backbone.trunk.pos_embed": "a SAM 3",
}


@dataclass(frozen=True)
class SamShape:
    """The numbers of a SAM network. Sides are in pixels, `global_blocks` see the whole picture."""

    side: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    window: int
    global_blocks: tuple[int, ...]
    channels: int
    mask_channels: int
    candidates: int
    decoder_depth: int
    decoder_mlp: int
    quality_depth: int
    quality_width: int

    @property
    def grid(self) -> int:
        """Side of the picture's embedding."""
        return self.side // self.patch

    @property
    def attention_bytes(self) -> int:
        """What a block that sees the whole picture needs beside the weights, in fp32."""
        copies = 3  # scores, scores with positions, softmax
        return copies * self.heads * self.grid**4 * 4


def read_sam_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint under the package's names. Nothing in the file is ever run.

    path: `.pth`, `.pt`, `.bin` or `.safetensors`
    Raises ConceptFileError for unsafe, damaged and foreign files, saying what they are.
    """
    safe = path.suffix.lower() == ".safetensors"
    content = read_tensors(path, path.name).tensors if safe else read_pickle(path, path.name)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ConceptFileError(f"'{path.name}' holds no dictionary of tensors.{_EXPECTED}")
    tensors = {str(k): t.detach() for k, t in content.items() if torch.is_tensor(t)}
    for mark, kind in _RELATIVES.items():
        if any(key.endswith(mark) for key in tensors):
            raise ConceptFileError(f"'{path.name}' is {kind}, which is not supported.{_EXPECTED}")
    prefix = next((key.removesuffix(_MARK) for key in tensors if key.endswith(_MARK)), None)
    if prefix is None:
        found = ", ".join(map(shown, sorted(tensors)[:3])) or "no tensor"
        raise ConceptFileError(f"'{path.name}' is no SAM: it holds {found}.{_EXPECTED}")
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def sam_shape(tensors: Mapping[str, Tensor]) -> SamShape:
    """The network that tensors under the package's names belong to. KeyError: one is missing."""
    encoder = "image_encoder."
    _, grid, _, width = tensors[f"{encoder}pos_embed"].shape
    patch = tensors[f"{encoder}patch_embed.proj.weight"].shape[-1]
    depth = _count(tensors, r"image_encoder\.blocks\.(\d+)\.")
    spans = [tensors[f"{encoder}blocks.{n}.attn.rel_pos_h"].shape[0] for n in range(depth)]
    everywhere = 2 * grid - 1
    windows = {(span + 1) // 2 for span in spans if span != everywhere}
    head_width = tensors[f"{encoder}blocks.0.attn.rel_pos_h"].shape[1]
    quality = "mask_decoder.iou_prediction_head.layers."
    return SamShape(
        side=grid * patch,
        patch=patch,
        width=width,
        depth=depth,
        heads=width // head_width,
        mlp_width=tensors[f"{encoder}blocks.0.mlp.lin1.weight"].shape[0],
        window=max(windows, default=0),
        global_blocks=tuple(n for n, span in enumerate(spans) if span == everywhere),
        channels=tensors[f"{encoder}neck.0.weight"].shape[0],
        mask_channels=tensors["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        candidates=tensors["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        decoder_depth=_count(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        decoder_mlp=tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        quality_depth=_count(tensors, re.escape(quality) + r"(\d+)\."),
        quality_width=tensors[f"{quality}0.weight"].shape[0],
    )


_MOST = {
    "side": 4096,
    "grid": 256,
    "depth": 64,
    "heads": 64,
    "candidates": 16,
    "decoder_depth": 16,
    "quality_depth": 16,
}
"""Far above any SAM; a network of the millions that a few numbers could ask for takes hours."""


def _check_bounds(shape: SamShape) -> None:
    for name, most in _MOST.items():
        if not 1 <= getattr(shape, name) <= most:
            raise ValueError(f"a {name} of {getattr(shape, name)}")


def _count(names: Iterable[str], pattern: str) -> int:
    numbers = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    return max(numbers, default=-1) + 1


def build_sam(shape: SamShape, device: str = "meta") -> "Sam":
    """The package's network; on the device `meta` it costs nothing and waits for its tensors."""
    parts = _package_parts()
    square = (shape.side, shape.side)
    with torch.device(device):
        return parts.Sam(
            image_encoder=parts.ImageEncoderViT(
                img_size=shape.side,
                patch_size=shape.patch,
                embed_dim=shape.width,
                depth=shape.depth,
                num_heads=shape.heads,
                mlp_ratio=(shape.mlp_width + 0.5) / shape.width,  # it rounds down
                out_chans=shape.channels,
                norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=shape.window,
                global_attn_indexes=shape.global_blocks,
            ),
            prompt_encoder=parts.PromptEncoder(
                embed_dim=shape.channels,
                image_embedding_size=(shape.grid, shape.grid),
                input_image_size=square,
                mask_in_chans=shape.mask_channels,
            ),
            mask_decoder=parts.MaskDecoder(
                transformer_dim=shape.channels,
                transformer=parts.TwoWayTransformer(
                    depth=shape.decoder_depth,
                    embedding_dim=shape.channels,
                    num_heads=_DECODER_HEADS,
                    mlp_dim=shape.decoder_mlp,
                ),
                num_multimask_outputs=shape.candidates,
                iou_head_depth=shape.quality_depth,
                iou_head_hidden_dim=shape.quality_width,
            ),
        ).eval()


def sam_from_tensors(tensors: Mapping[str, Tensor], name: str) -> tuple["Sam", SamShape]:
    """The network with its weights, fp32, CPU. Raises ConceptFileError for an incomplete set."""
    try:
        shape = sam_shape(tensors)
        _check_bounds(shape)
        wrong = next((key for key, tensor in tensors.items() if not is_finite(tensor)), None)
        if wrong is not None:
            raise ValueError(f"NaN or infinite numbers in {wrong}")
        sam = build_sam(shape)
        sam.load_state_dict({key: t.float() for key, t in tensors.items()}, assign=True)
    except ConceptFileError:
        raise
    except Exception as error:  # tensors can be missing, and of any shape
        raise ConceptFileError(
            f"'{name}' is no whole SAM ({' '.join(str(error).split())[:200]}). Copy or download it "
            f"again.{_EXPECTED}"
        ) from error
    # What the file does not hold: colours are normalised as in ImageNet, in 0..255.
    for key, values in _COLOURS.items():
        sam.register_buffer(key, torch.tensor(values).view(-1, 1, 1), persistent=False)
    return sam, shape


_COLOURS = {"pixel_mean": (123.675, 116.28, 103.53), "pixel_std": (58.395, 57.12, 57.375)}


def _package_parts() -> Any:
    """The package's networks, imported when they are first needed: torchvision takes seconds."""
    try:
        from segment_anything import modeling
    except ImportError as error:
        raise ConceptFileError(
            "The package segment-anything is not installed, which Load SAM needs. Install this "
            "pack's requirements.txt with ComfyUI's Python: python -m pip install segment-anything"
        ) from error
    return modeling
