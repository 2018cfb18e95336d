"""ELITE (Wei et al. 2023): a picture becomes a concept in one pass of a trained encoder."""

import logging
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ...concepts.concept import Concept
from ...concepts.elite import (
    EliteEncoder,
    map_patches,
    map_words,
    mask_patches,
    patch_grid,
    read_layers,
)
from ...concepts.errors import BaseModelError, PersonalizeError
from ...concepts.methods import ELITE
from ...host.versions import host_versions
from ...host.vision import layer_features, vision_shape
from ...pictures.images import plain_pixels, small_copies
from ...pictures.masks import MaskMarks, Warn, has_own_masks, read_masks
from ...version import __version__


@torch.inference_mode()
def encode_elite(
    encoder: EliteEncoder,
    clip_vision: Any,
    pictures: Tensor,
    masks: Tensor | None = None,
    *,
    placeholder: str = "<my-dog>",
    class_word: str = "",
    marks: MaskMarks = MaskMarks.AUTO,
    warn: Warn = logging.warning,
) -> Concept:
    """The concept of a picture: a primary word, four auxiliary words, local features.

    pictures: (N, H, W, C) in 0..1, each resized as a whole to the encoder's square
    masks, marks, warn: as `read_masks` takes them; None: the whole picture, or what is opaque in it

    Several pictures: each word is the mean over them, the local features are the first one's (the
    paper has one picture only).
    Raises BaseModelError for another vision encoder, PersonalizeError for a mask that cannot be.
    """
    check_vision(encoder, clip_vision)
    whole = list(pictures)
    if masks is not None or has_own_masks(whole):
        read = read_masks(() if masks is None else masks, whole, marks, warn)
        masks = torch.stack(read)[:, None]
        _check_grid(masks, encoder.vision.patches)
    words, local = _mapped(encoder, clip_vision, whole, masks)
    return Concept(
        method=ELITE,
        base=encoder.base,
        text_width=encoder.text_width,
        placeholder=placeholder,
        class_word=class_word,
        words={f"word{n}" if n else "": word[None] for n, word in enumerate(words)},
        tensors={} if local is None else {"local": local.cpu()},
        training={
            "encoder": {
                "name": encoder.name,
                "digest": encoder.digest,
                "vision": list(astuple(encoder.vision)),
            },
            "pictures": len(pictures),
            "masked": masks is not None,
            "versions": {"personalize": __version__, **host_versions()},
        },
        encoder=encoder,
        pictures=small_copies([pictures]),
    )


def _mapped(
    encoder: EliteEncoder, clip_vision: Any, pictures: Sequence[Tensor], masks: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The five words (5, d), and the local features of the first picture (P, d), None without a
    local stage.

    pictures: (H, W, C) each; masks: (N, 1, H, W)
    """
    seen, stage = torch.stack([plain_pixels(picture) for picture in pictures]), encoder.local_stage
    if stage is not None:  # it sees the first picture once more, without what lies beside its mask
        first = seen[:1]
        if masks is not None:
            first = first * rearrange(masks[:1], "b 1 h w -> b h w 1").to(seen)
        seen = torch.cat([seen, first])
    features = layer_features(clip_vision, seen, read_layers(encoder.vision))
    words = map_words(encoder.global_stage.mapper, features[:, : len(pictures)]).mean(dim=0)
    if stage is None:
        return words, None
    local = map_patches(stage.mapper, features[:, len(pictures) :])
    if masks is not None:
        local = mask_patches(local, masks[:1].to(local))
    return words, local[0]


def check_vision(encoder: EliteEncoder, clip_vision: Any) -> None:
    """Refuse a CLIP_VISION that the mappers were not trained with, naming both."""
    if clip_vision is None:
        raise BaseModelError("There is no CLIP_VISION. Connect Load CLIP Vision.")
    shape = vision_shape(clip_vision)
    if shape != encoder.vision:
        raise BaseModelError(
            f"The ELITE encoder {encoder.name} reads a CLIP vision encoder of {encoder.vision}, "
            f"but this CLIP_VISION has {shape}. Load the one it was trained with; the official "
            "encoder needs CLIP ViT-L/14 at 224 px."
        )


def _check_grid(masks: Tensor, patches: int) -> None:
    rows, columns = patch_grid(patches)
    if not torch.nn.functional.interpolate(masks[:1], (rows, columns)).any():
        raise PersonalizeError(
            f"The mask marks so little that nothing is left of it on the encoder's grid of "
            f"{columns}x{rows}. Crop picture and mask closer around the subject."
        )
