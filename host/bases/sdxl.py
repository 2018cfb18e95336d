"""Stable Diffusion XL: CLIP ViT-L/14 and OpenCLIP ViT-bigG/14 side by side, and what bigG pools."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from comfy import supported_models
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...concepts.bases import BASES
from ...concepts.errors import BaseModelError
from ..conditioning import Conditioning, TowerOutput
from .host_base import HostBase, Tower

_ON_NOISE_OF_THEIR_OWN = {
    ModelType.EDM: "Playground v2.5 or a child of it",
    ModelType.V_PREDICTION_EDM: "CosXL or a child of it",
}
"""Variants in EDM's formulation, without the timesteps of Stable Diffusion."""


class SDXL(HostBase):
    """Its children, too: they differ in weights (Pony, Illustrious, NoobAI) or in the depth of the
    UNet (SSD-1B, Vega, KOALA), which is no matter of words."""

    base = BASES["sdxl"]
    configs = (supported_models.SDXL,)
    relatives: ClassVar[Mapping[type, str]] = {
        supported_models.SDXLRefiner: "the refiner of Stable Diffusion XL, which reads prompts "
        "through one text encoder alone. Learn and apply concepts on the base model; the refiner "
        "goes on from its picture with prompts of its own, in which the class word stands."
    }
    reads_vector = True
    checkpointing = True

    def check_usable(self, model: ModelPatcher) -> None:
        kind: Any = getattr(model.model, "model_type", None)
        variant = _ON_NOISE_OF_THEIR_OWN.get(kind)
        if variant is not None:
            raise BaseModelError(
                f"This MODEL is {variant}, an EDM variant of Stable Diffusion XL with noise levels "
                "of its own. Take Stable Diffusion XL itself or a child of it with the usual ones, "
                "such as Pony, Illustrious or NoobAI."
            )

    def read_modules(self, towers: Sequence[Tower]) -> list[nn.Module]:
        projection = towers[-1].encoder.transformer.text_projection
        return [*super().read_modules(towers), projection]

    def join(self, outputs: Sequence[TowerOutput]) -> Conditioning:
        rows = torch.cat([output.rows for output in outputs], dim=-1)
        return Conditioning(rows, outputs[-1].pooled)

    def as_words(self, outputs: Sequence[TowerOutput]) -> Tensor:
        # The context has no final norm, so its rows are of another size than embeddings.
        return torch.cat([output.last for output in outputs], dim=-1)

    def inputs(
        self, model: ModelPatcher, conditioning: Conditioning, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """What is pooled, and the picture's size: the original's and the target's, without a crop,
        as diffusers' Textual Inversion and Custom Diffusion tell it.

        Why not the sizes that the pictures had? What is trained on is a square that was cropped and
        resized, or drawn anew by zooms and masks, beside pictures of the class that the model has
        made at this size; and a prompt asks for this size again.
        """
        pooled = conditioning.pooled
        if pooled is None:
            raise ValueError("The conditioning of Stable Diffusion XL needs its pooled vectors.")
        sizes = _encoded_size(model.model, size, pooled).expand(len(pooled), -1)
        return {"y": torch.cat([pooled, sizes], dim=-1)}


_ENCODED: dict[tuple[tuple[int, int], torch.device, torch.dtype], Tensor] = {}


def _encoded_size(host_model: Any, size: tuple[int, int], like: Tensor) -> Tensor:
    """What the UNet reads of a picture's height and width, (1, n), with the type and place of
    `like`. It is the same for all models, and made once: a step would wait for it.

    The host makes it on the CPU, beside the pooled vectors. These have gradients and stay where
    they are: it gets empty ones.
    """
    key = size, like.device, like.dtype
    if key not in _ENCODED:
        height, width = size
        with torch.inference_mode(False):
            made = host_model.encode_adm(
                pooled_output=torch.zeros(1, 0), height=height, width=width
            )
            _ENCODED[key] = made.to(like)
    return _ENCODED[key]
