"""Weights of a MODEL's UNet: the user's own, as they were loaded, and differences added to them.

A weight is named by the path of its layer in the UNet, `middle_block.1.transformer_blocks.0
.attn2.to_k`; the host names it by that path in the whole model, and keeps its patches by that name.
"""

from collections.abc import Iterable, Mapping

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

_ROOT = "diffusion_model."
_WEIGHT = ".weight"
_PROJECTIONS = (".attn2.to_k", ".attn2.to_v")


def weight_key(path: str) -> str:
    """The host's name of the weight of a layer of the UNet."""
    return f"{_ROOT}{path}{_WEIGHT}"


def weight_shapes(model: ModelPatcher, paths: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of weights by path; those that the MODEL lacks are absent."""
    weights = model.model_state_dict(_ROOT)
    return {
        path: tuple(weights[weight_key(path)].shape)
        for path in paths
        if weight_key(path) in weights
    }


def own_weights(model: ModelPatcher, paths: Iterable[str]) -> dict[str, Tensor]:
    """Weights without LoRAs and other patches by path, in fp32 on the CPU; those that the MODEL
    lacks are absent.

    While a MODEL is loaded its weights have the patches in them, and the host keeps the own ones
    aside: `get_key_patches` finds either.
    """
    known = model.get_key_patches(_ROOT)
    found = {}
    for path in paths:
        if weight_key(path) in known:
            weight, convert = known[weight_key(path)][0]
            own = convert(weight, inplace=False).detach()
            found[path] = own.to("cpu", torch.float32, copy=True)
    return found


def own_projections(model: ModelPatcher) -> dict[str, Tensor]:
    """The own weights of the keys and values of all cross attentions, by path."""
    names = (key.removeprefix(_ROOT) for key in model.get_key_patches(_ROOT))
    paths = [name.removesuffix(_WEIGHT) for name in names if name.endswith(_WEIGHT)]
    return own_weights(model, [path for path in paths if path.endswith(_PROJECTIONS)])


def add_differences(model: ModelPatcher, differences: Mapping[str, Tensor], factor: float) -> None:
    """Add differences by path, times a factor, to the weights of a clone that is ours.

    They are the host's own patches, added to the user's weights. So LoRAs on the same weights keep
    their effect in either order; to set the weights would erase those that came before.
    """
    patches = {weight_key(path): ("diff", (matrix,)) for path, matrix in differences.items()}
    model.add_patches(patches, factor)
