"""The user's own weights of a MODEL, as they were loaded: without LoRAs and other patches."""

from collections.abc import Iterable

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor


def own_weights(model: ModelPatcher, keys: Iterable[str]) -> dict[str, Tensor]:
    """Weights in fp32 on the CPU by the host's name of them; names that the MODEL lacks are absent.

    While a MODEL is loaded its weights have the patches in them, and the host keeps the own ones
    aside: `get_key_patches` finds either.
    """
    known = model.get_key_patches("diffusion_model.")
    found = {}
    for key in keys:
        if key in known:
            weight, convert = known[key][0]
            found[key] = convert(weight, inplace=False).detach().to("cpu", torch.float32, copy=True)
    return found
