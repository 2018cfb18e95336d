"""SAM (Kirillov et al. 2023), the first version, through the package segment-anything.

The network is told from its tensors: ViT-B, ViT-L, ViT-H and any other depth and width are read
alike. Nothing is taken from a file's name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..concepts.errors import ConceptFileError
from ..concepts.tensors import is_finite

if TYPE_CHECKING:
    from segment_anything import SamPredictor
    from segment_anything.modeling import Sam

FIRST_MARK = "image_encoder.pos_embed"
"""Name of a tensor that only this version has."""

_DECODER_HEADS = 8  # of every SAM; the tensors do not tell
_COLOURS = {"pixel_mean": (123.675, 116.28, 103.53), "pixel_std": (58.395, 57.12, 57.375)}


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


def sam_from_tensors(tensors: Mapping[str, Tensor]) -> tuple["Sam", SamShape]:
    """The network with its weights, fp32, CPU. Raises an error of any kind for an incomplete set.

    Some tools save how colours are normalised, too, in 0..255 as in ImageNet; others must be told.
    """
    colours = {k: tensors.get(k, torch.tensor(v)).float().flatten() for k, v in _COLOURS.items()}
    tensors = {key: tensor for key, tensor in tensors.items() if key not in _COLOURS}
    if any(values.shape != (3,) for values in colours.values()):
        raise ValueError("pixel_mean and pixel_std of another number of colours than 3")
    shape = sam_shape(tensors)
    _check_bounds(shape)
    wrong = next((key for key, tensor in tensors.items() if not is_finite(tensor)), None)
    if wrong is not None:
        raise ValueError(f"NaN or infinite numbers in {wrong}")
    sam = build_sam(shape)
    sam.load_state_dict({key: t.float() for key, t in tensors.items()}, assign=True)
    for key, values in colours.items():
        sam.register_buffer(key, values.view(-1, 1, 1), persistent=False)
    return sam, shape


@dataclass(frozen=True, eq=False)
class FirstSam:
    """The first version as a generation of SAM, see `sam.Generation`."""

    shape: SamShape
    module: "Sam"

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "FirstSam":
        sam, shape = sam_from_tensors(tensors)
        return cls(shape, sam)

    @property
    def working_bytes(self) -> int:
        return self.shape.attention_bytes

    def embed(self, pixels: np.ndarray) -> list[Tensor]:
        predictor = self._predictor()
        predictor.set_image(pixels)
        return [predictor.get_image_embedding()]

    def answer(
        self,
        embeddings: Sequence[Tensor],
        size: tuple[int, int],
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        box: tuple[float, float, float, float] | None,
        several: bool,
    ) -> tuple[Tensor, Tensor]:
        predictor = self._predictor()
        _recall(predictor, embeddings[0], size)
        masks, quality, _ = predictor.predict(
            point_coords=np.array(points, dtype=np.float64) if points else None,
            point_labels=np.array(labels, dtype=np.int64) if points else None,
            box=None if box is None else np.array(box, dtype=np.float64),
            multimask_output=several,
        )
        return torch.as_tensor(masks), torch.as_tensor(quality)

    def _predictor(self) -> "SamPredictor":
        from segment_anything import SamPredictor

        return SamPredictor(self.module)


def _recall(predictor: "SamPredictor", features: Tensor, size: tuple[int, int]) -> None:
    """Bring a predictor into the state after `set_image`."""
    transform = predictor.transform
    predictor.features = features
    predictor.original_size = size
    predictor.input_size = transform.get_preprocess_shape(*size, transform.target_length)
    predictor.is_image_set = True


def _package_parts() -> Any:
    """The package's networks, imported when they are first needed: torchvision takes seconds."""
    try:
        from segment_anything import modeling
    except Exception as error:  # a broken torchvision raises many kinds
        raise ConceptFileError(
            f"The package segment-anything is not installed or broken ({error}); the first version "
            "of SAM needs it. Install this pack's requirements.txt with ComfyUI's Python: python "
            "-m pip install segment-anything. Or load a SAM 2, which needs nothing more."
        ) from error
    return modeling
