"""Segment Anything as a model of the host: moved, offloaded and freed with the others.

Two generations, one door: the first version through the package segment-anything, and SAM 2 and 2.1
through transformers.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ..concepts.errors import ConceptFileError
from .sam_files import EXPECTED, read_checkpoint
from .sam_first import FIRST_MARK, FirstSam
from .sam_second import SECOND_MARKS, SecondSam

REMEMBERED_BYTES = 2**28
"""Of embeddings of pictures in memory: 64 pictures of the first version, 16 of the second."""


class Generation(Protocol):
    """A version of SAM.

    module: its network; working_bytes: what that needs beside its weights while it looks
    """

    @property
    def module(self) -> nn.Module: ...

    @property
    def working_bytes(self) -> int: ...

    def embed(self, pixels: np.ndarray) -> list[Tensor]:
        """What the network keeps of a picture, (H, W, 3), uint8, on the module's device."""
        ...

    def answer(
        self,
        embeddings: Sequence[Tensor],
        size: tuple[int, int],
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        box: tuple[float, float, float, float] | None,
        several: bool,
    ) -> tuple[Tensor, Tensor]:
        """As `predict_masks`, of a picture of a size (height, width) from what `embed` gave."""
        ...


_GENERATIONS: dict[str, Callable[[Mapping[str, Tensor]], Generation]] = {
    FIRST_MARK: FirstSam.from_tensors,
    **dict.fromkeys(SECOND_MARKS, SecondSam.from_tensors),
}
"""By the name of a tensor that only this version has."""


class SamHolder(nn.Module):
    """Holds a network for the host, which sets attributes that the networks' classes refuse."""

    def __init__(self, sam: nn.Module) -> None:
        super().__init__()
        self.sam = sam


@dataclass(frozen=True, eq=False)
class SamModel:
    """A SAM and the embeddings of the pictures that it has seen, by their content."""

    name: str
    generation: Generation
    patcher: ModelPatcher
    seen: OrderedDict[str, list[Tensor]] = field(default_factory=OrderedDict, repr=False)


def load_sam(path: Path) -> SamModel:
    """A SAM from any checkpoint of it. Raises ConceptFileError for other files."""
    mark, tensors = read_checkpoint(path, tuple(_GENERATIONS))
    try:
        generation = _GENERATIONS[mark](tensors)
    except ConceptFileError:
        raise
    except Exception as error:  # tensors can be missing, and of any shape
        raise ConceptFileError(
            f"'{path.name}' is no whole SAM ({' '.join(str(error).split())[:200]}). Copy or "
            f"download it again.{EXPECTED}"
        ) from error
    patcher = ModelPatcher(
        SamHolder(generation.module),
        load_device=model_management.get_torch_device(),
        offload_device=model_management.unet_offload_device(),
    )
    return SamModel(path.stem, generation, patcher)


@torch.inference_mode()
def predict_masks(
    model: SamModel,
    picture: Tensor,
    points: Sequence[tuple[float, float]] = (),
    labels: Sequence[int] = (),
    box: tuple[float, float, float, float] | None = None,
    several: bool = True,
) -> tuple[Tensor, Tensor]:
    """What SAM answers to a prompt, as its own predictor does; a picture is embedded only once.

    picture: (H, W, 3) in 0..1
    points: (x, y) in pixels of the picture; labels: 1 on the subject, 0 beside it
    box: left, top, right, bottom in pixels
    several: the three candidates for an ambiguous prompt, else the one mask for a plain prompt
    Returns masks (N, H, W), booleans, and the quality that SAM expects of each, (N,); CPU.
    """
    pixels = (picture.clamp(0, 1) * 255).round().byte().cpu().numpy()
    embeddings = _embeddings(model, pixels)
    size = int(pixels.shape[0]), int(pixels.shape[1])
    masks, quality = model.generation.answer(embeddings, size, points, labels, box, several)
    return masks.cpu(), quality.cpu()


def _embeddings(model: SamModel, pixels: np.ndarray) -> list[Tensor]:
    """Of a picture that was looked at now or before; the network is on its device afterwards."""
    device = model.patcher.load_device
    # The networks' layers know no casting, so that a part left behind would be of no use.
    model_management.load_models_gpu(
        [model.patcher], memory_required=model.generation.working_bytes, force_full_load=True
    )
    model.patcher.model.to(device)
    key = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
    if key in model.seen:
        model.seen.move_to_end(key)
        return [tensor.to(device) for tensor in model.seen[key]]
    embeddings = model.generation.embed(pixels)
    model.seen[key] = [tensor.cpu() for tensor in embeddings]
    while len(model.seen) > 1 and _bytes_of(model) > REMEMBERED_BYTES:
        model.seen.popitem(last=False)
    return embeddings


def _bytes_of(model: SamModel) -> int:
    return sum(tensor.nbytes for tensors in model.seen.values() for tensor in tensors)
