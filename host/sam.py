"""SAM (Kirillov et al. 2023) as a model of the host: moved, offloaded and freed with the others."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from .sam_files import SamShape, read_sam_tensors, sam_from_tensors

if TYPE_CHECKING:
    from segment_anything import SamPredictor
    from segment_anything.modeling import Sam

REMEMBERED = 64
"""Pictures whose embeddings are kept in memory, 4 MB each at SAM's own size."""


class SegmentAnything(nn.Module):
    """Holds the network for the host, which sets attributes that the package's class refuses."""

    def __init__(self, sam: "Sam") -> None:
        super().__init__()
        self.sam = sam


@dataclass(frozen=True, eq=False)
class SamModel:
    """A SAM network and the embeddings of the pictures that it has seen, by their content."""

    name: str
    shape: SamShape
    patcher: ModelPatcher
    seen: OrderedDict[str, Tensor] = field(default_factory=OrderedDict, repr=False)


def load_sam(path: Path) -> SamModel:
    """A SAM from any checkpoint of it. Raises ConceptFileError for other files."""
    sam, shape = sam_from_tensors(read_sam_tensors(path), path.name)
    patcher = ModelPatcher(
        SegmentAnything(sam),
        load_device=model_management.get_torch_device(),
        offload_device=model_management.unet_offload_device(),
    )
    return SamModel(path.stem, shape, patcher)


@torch.inference_mode()
def predict_masks(
    model: SamModel,
    picture: Tensor,
    points: Sequence[tuple[float, float]] = (),
    labels: Sequence[int] = (),
    box: tuple[float, float, float, float] | None = None,
    several: bool = True,
) -> tuple[Tensor, Tensor]:
    """What the package's SamPredictor gives for a prompt; a picture is embedded only once.

    picture: (H, W, 3) in 0..1
    points: (x, y) in pixels of the picture; labels: 1 on the subject, 0 beside it
    box: left, top, right, bottom in pixels
    several: the three candidates for an ambiguous prompt, else the one mask for a plain prompt
    Returns masks (N, H, W), booleans, and the quality that SAM expects of each, (N,); CPU.
    """
    predictor = _predictor(model, picture)
    masks, quality, _ = predictor.predict(
        point_coords=np.array(points, dtype=np.float64) if points else None,
        point_labels=np.array(labels, dtype=np.int64) if points else None,
        box=None if box is None else np.array(box, dtype=np.float64),
        multimask_output=several,
    )
    return torch.as_tensor(masks), torch.as_tensor(quality)


def _predictor(model: SamModel, picture: Tensor) -> "SamPredictor":
    """The package's predictor, which has looked at the picture, now or before."""
    from segment_anything import SamPredictor

    device = model.patcher.load_device
    # The package's layers know no casting, so that a part left behind would be of no use.
    model_management.load_models_gpu(
        [model.patcher], memory_required=model.shape.attention_bytes, force_full_load=True
    )
    holder: SegmentAnything = model.patcher.model.to(device)
    predictor = SamPredictor(holder.sam)
    pixels = (picture.clamp(0, 1) * 255).round().byte().cpu().numpy()
    key = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
    if key in model.seen:
        model.seen.move_to_end(key)
        _recall(predictor, model.seen[key].to(device), pixels.shape[:2])
        return predictor
    predictor.set_image(pixels)
    model.seen[key] = predictor.get_image_embedding().cpu()
    while len(model.seen) > REMEMBERED:
        model.seen.popitem(last=False)
    return predictor


def _recall(predictor: "SamPredictor", features: Tensor, size: tuple[int, int]) -> None:
    """Bring a predictor into the state after `set_image`."""
    transform = predictor.transform
    predictor.features = features
    predictor.original_size = size
    predictor.input_size = transform.get_preprocess_shape(*size, transform.target_length)
    predictor.is_image_set = True
