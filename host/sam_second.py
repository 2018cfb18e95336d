"""SAM 2 and 2.1 (Ravi et al. 2024) for single pictures, through transformers, which the host has.

A checkpoint holds the video model, too: what remembers frames is left out. The files of the authors
and those of transformers hold the same tensors under other names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate

from ..concepts.errors import ConceptFileError
from ..concepts.tensors import is_finite

_AUTHORS, _TRANSFORMERS = "image_encoder.trunk.", "vision_encoder.backbone."
SECOND_MARKS = (f"{_AUTHORS}pos_embed_window", f"{_TRANSFORMERS}pos_embed_window")
"""Names of a tensor that only this version has, the authors' and that of transformers."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in 0..1
_WORKING_BYTES = 2**30  # of the largest one at 1024 pixels


@dataclass(frozen=True)
class Hiera:
    """What the tensors of an image encoder do not tell.

    heads: of the first stage; each of the next has twice as many
    windows: sides of the four stages' windows; global_blocks: see the whole picture
    side: of the square that a picture is resized to
    """

    name: str
    heads: int
    windows: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    side: int = 1024


HIERAS: dict[tuple[int, tuple[int, ...]], Hiera] = {
    (96, (1, 2, 7, 2)): Hiera("tiny", 1, (8, 4, 14, 7), (5, 7, 9)),
    (96, (1, 2, 11, 2)): Hiera("small", 1, (8, 4, 14, 7), (7, 10, 13)),
    (112, (2, 3, 16, 3)): Hiera("base+", 2, (8, 4, 14, 7), (12, 16, 20)),
    (144, (2, 6, 36, 4)): Hiera("large", 2, (8, 4, 16, 8), (23, 33, 43)),
}
"""The published encoders by width and blocks of each stage, which the tensors do tell."""

_RENAMED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^image_encoder\.trunk\.", _TRANSFORMERS),
        (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^sam_prompt_encoder\.", "prompt_encoder."),
        (r"^sam_mask_decoder\.", "mask_decoder."),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        (r"\.pe_layer\.positional_encoding_gaussian_matrix$",
         ".shared_embedding.positional_embedding"),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        (r"\.out_proj\.", ".o_proj."),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        (r"(_head|_mlps\.\d)\.layers\.0\.", r"\1.proj_in."),
        (r"(_head|_mlps\.\d)\.layers\.2\.", r"\1.proj_out."),
        (r"(_head|_mlps\.\d)\.layers\.1\.", r"\1.layers.0."),
        (r"\.output_upscaling\.0\.", ".upscale_conv1."),
        (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
        (r"\.output_upscaling\.3\.", ".upscale_conv2."),
        (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
        (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
        (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
        (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
        (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    )
)  # fmt: skip
"""The authors' names and those of transformers, in the order in which they are replaced."""

_POINTS = re.compile(r"prompt_encoder\.point_embeddings\.(\d)\.weight")


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under the names of transformers; those of videos keep theirs."""
    found: dict[str, Tensor] = {}
    points: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, new in _RENAMED:
            name = pattern.sub(new, name)
        kind = _POINTS.fullmatch(name)
        if kind:
            points[int(kind[1])] = tensor
        else:
            found[name] = tensor
    if points:
        found["prompt_encoder.point_embed.weight"] = torch.cat([points[n] for n in sorted(points)])
    shared = "prompt_encoder.shared_embedding.positional_embedding"
    if shared in found:
        found.setdefault("shared_image_embedding.positional_embedding", found[shared])
    return found


def sam2_config(tensors: Mapping[str, Tensor]) -> Any:
    """The configuration that tensors under the names of transformers belong to.

    Raises ConceptFileError for an encoder that is none of the published ones.
    """
    parts = _transformers_parts()
    backbone = _TRANSFORMERS
    width = tensors[f"{backbone}pos_embed"].shape[1]
    blocks = _blocks_of_stages(tensors, width)
    hiera = HIERAS.get((width, blocks))
    if hiera is None:
        known = ", ".join(one.name for one in HIERAS.values())
        raise ConceptFileError(
            f"This SAM 2 has an encoder of width {width} with {blocks} blocks, which is none of "
            f"the published ones ({known}). Load one of those."
        )
    widths = [width * 2**n for n in range(len(blocks))]
    features = [[hiera.side // stride] * 2 for stride in (4, 8, 16)]
    encoder = parts.Sam2VisionConfig(
        backbone_config=parts.Sam2HieraDetConfig(
            hidden_size=width,
            num_attention_heads=hiera.heads,
            image_size=[hiera.side, hiera.side],
            window_positional_embedding_background_size=list(
                tensors[f"{backbone}pos_embed"].shape[2:]
            ),
            blocks_per_stage=list(blocks),
            embed_dim_per_stage=widths,
            num_attention_heads_per_stage=[hiera.heads * 2**n for n in range(len(blocks))],
            window_size_per_stage=list(hiera.windows),
            global_attention_blocks=list(hiera.global_blocks),
        ),
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=features,
        fpn_hidden_size=tensors["vision_encoder.neck.convs.0.weight"].shape[0],
    )
    channels = tensors["prompt_encoder.point_embed.weight"].shape[1]
    mlp = tensors["mask_decoder.transformer.layers.0.mlp.proj_in.weight"].shape[0]
    quality = tensors["mask_decoder.iou_prediction_head.proj_in.weight"].shape[0]
    return parts.Sam2Config(
        vision_config=encoder,
        prompt_encoder_config=parts.Sam2PromptEncoderConfig(
            hidden_size=channels, image_size=hiera.side
        ),
        mask_decoder_config=parts.Sam2MaskDecoderConfig(
            hidden_size=channels, mlp_dim=mlp, iou_head_hidden_dim=quality
        ),
    )


def _blocks_of_stages(tensors: Mapping[str, Tensor], width: int) -> tuple[int, ...]:
    """How many blocks have the width of the first stage, how many twice as much, and so on."""
    prefix, suffix = f"{_TRANSFORMERS}blocks.", ".attn.proj.weight"
    sizes = [t.shape[0] for k, t in tensors.items() if k.startswith(prefix) and k.endswith(suffix)]
    return tuple(sizes.count(width * 2**n) for n in range(4))


@dataclass(frozen=True, eq=False)
class SecondSam:
    """SAM 2 as a generation of SAM, see `sam.Generation`."""

    side: int
    module: Any  # transformers' Sam2Model

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "SecondSam":
        if SECOND_MARKS[0] in tensors:
            tensors = renamed(tensors)
        config = sam2_config(tensors)
        with torch.device("meta"):
            module = _transformers_parts().Sam2Model(config).eval()
        wanted = module.state_dict().keys()
        own = {key: tensor for key, tensor in tensors.items() if key in wanted}
        wrong = next((key for key, tensor in own.items() if not is_finite(tensor)), None)
        if wrong is not None:
            raise ValueError(f"NaN or infinite numbers in {wrong}")
        module.load_state_dict({key: t.float() for key, t in own.items()}, assign=True)
        return cls(config.prompt_encoder_config.image_size, module.requires_grad_(False))

    @property
    def working_bytes(self) -> int:
        return _WORKING_BYTES

    def embed(self, pixels: np.ndarray) -> list[Tensor]:
        return self.module.get_image_embeddings(self.preprocessed(pixels).to(self._device))

    def preprocessed(self, pixels: np.ndarray) -> Tensor:
        """The whole picture as a square, (1, 3, side, side), as transformers' processor gives it.

        It is resized as bytes, which rounds.
        """
        square = rearrange(torch.from_numpy(pixels), "h w c -> 1 c h w")
        size = (self.side, self.side)
        square = interpolate(square, size, mode="bilinear", antialias=True).float() / 255
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        return (square - mean) / std

    def answer(
        self,
        embeddings: Sequence[Tensor],
        size: tuple[int, int],
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        box: tuple[float, float, float, float] | None,
        several: bool,
    ) -> tuple[Tensor, Tensor]:
        height, width = size
        scale = torch.tensor([self.side / width, self.side / height], device=self._device)
        prompt: dict[str, Tensor] = {}
        if points:
            places = torch.tensor(points, dtype=torch.float32, device=self._device) * scale
            prompt["input_points"] = places[None, None]
            prompt["input_labels"] = torch.tensor(labels, device=self._device)[None, None]
        if box is not None:
            corners = torch.tensor(box, dtype=torch.float32, device=self._device).view(2, 2)
            prompt["input_boxes"] = (corners * scale).view(1, 1, 4)
        output = self.module(image_embeddings=list(embeddings), multimask_output=several, **prompt)
        masks = interpolate(output.pred_masks[0].float(), size, mode="bilinear")[0] > 0
        return masks, output.iou_scores[0, 0].float()

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device


def _transformers_parts() -> Any:
    """transformers' SAM 2, imported when it is first needed: it takes seconds."""
    try:
        from transformers.models import sam2

        _ = sam2.Sam2Model, sam2.Sam2Config
    except Exception as error:  # too old, or broken in one of many ways
        raise ConceptFileError(
            f"This ComfyUI's transformers has no SAM 2 ({error}). Expected 4.56 or newer: python "
            "-m pip install --upgrade transformers. Or load a SAM of the first version."
        ) from error
    return sam2
