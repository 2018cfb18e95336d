"""Checkpoints of Segment Anything: read without unpickling, and told apart by what they hold.

Trainers put the tensors under names and prefixes of their own; which version it is, and where its
tensors are, is told from the names of the tensors alone.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..concepts.errors import ConceptFileError, shown
from ..concepts.foreign import check_kind, is_safetensors
from ..concepts.pickles import read_pickle
from ..concepts.tensor_files import read_tensors

EXPECTED = (
    " Expected a checkpoint of Segment Anything, such as sam_vit_b_01ec64.pth, or of its second "
    "version, such as sam2.1_hiera_small.pt."
)

_DEEPEST = 3  # dictionaries within dictionaries
_RELATIVES = {
    "mask_decoder.hf_token.weight": "an HQ-SAM, which is not supported",
    "image_encoder.patch_embed.seq.0.c.weight": "a MobileSAM, which is not supported",
    "vision_encoder.pos_embed": "a SAM under the names of transformers, which is not supported",
    "detector.backbone.vision_backbone.trunk.pos_embed": (
        "a SAM 3, which ComfyUI has nodes of its own for: their MASK fits everywhere"
    ),
}


def read_checkpoint(path: Path, marks: tuple[str, ...]) -> tuple[str, dict[str, Tensor]]:
    """The first of the marks that a tensor's name ends in, and the tensors without that prefix.

    path: `.pth`, `.pt`, `.bin` or `.safetensors`; a trainer's file with the tensors within, under
        `model`, `net`, `state_dict`, `model_state_dict` or any other name, is read alike
    marks: names of tensors, each of which stands for a version
    Raises ConceptFileError for unsafe, damaged and foreign files, saying what they are.
    """
    name = path.name
    check_kind(path, name)
    content = read_tensors(path, name, finite=False).tensors if is_safetensors(path) else None
    content = read_pickle(path, name) if content is None else content
    if not isinstance(content, Mapping):
        raise ConceptFileError(f"'{name}' holds no dictionary of tensors.{EXPECTED}")
    sets = [_tensors_of(one) for one in _dictionaries(content, _DEEPEST)]
    for tensors in sets:
        for relative, kind in _RELATIVES.items():
            if any(key.endswith(relative) for key in tensors):
                raise ConceptFileError(f"'{name}' is {kind}.{EXPECTED}")
    for tensors in sets:
        for mark in marks:
            prefix = next((k.removesuffix(mark) for k in tensors if k.endswith(mark)), None)
            if prefix is not None:
                own = ((k, t) for k, t in tensors.items() if k.startswith(prefix))
                return mark, {key.removeprefix(prefix): tensor for key, tensor in own}
    keys = sorted(key for tensors in sets for key in tensors)
    found = ", ".join(map(shown, keys[:3])) or "no tensor"
    raise ConceptFileError(f"'{name}' is no SAM: it holds {found}.{EXPECTED}")


def _dictionaries(content: Mapping[Any, Any], depth: int) -> Iterator[Mapping[Any, Any]]:
    """A dictionary and those within it, the outer ones first."""
    yield content
    for value in content.values():
        if isinstance(value, Mapping) and depth:
            yield from _dictionaries(value, depth - 1)


def _tensors_of(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(key): value.detach() for key, value in content.items() if torch.is_tensor(value)}
