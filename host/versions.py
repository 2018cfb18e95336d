"""Which ComfyUI this is, and whether it has what the pack relies on beyond its public API.

Each private name has one room in `host/` that uses it, whose docstring says in which versions its
shape was seen. A version that lacks one is told of when the pack is loaded, not in the middle of a
training.
"""

import importlib
import logging
import re
from typing import Any

import torch
from comfyui_version import __version__ as comfyui_version

from ..concepts.errors import PersonalizeError

OLDEST = "0.16.3"
"""The oldest that tests were run on, see docs/compatibility.md; pyproject.toml says so, too."""

PRIVATE_NAMES: dict[str, str] = {
    "comfy.sd1_clip.SDTokenizer._try_get_embedding": "word_tokenizer.py",
    "comfy.sd1_clip.SDTokenizer.tokenize_with_weights": "word_tokenizer.py",
    "comfy.clip_model.CLIPAttention": "text_attention.py",
    "comfy.clip_model.clip_preprocess": "vision.py",
    "comfy.ldm.modules.attention.BasicTransformerBlock": "autograd.py",
    "comfy.ldm.modules.attention.attention_pytorch": "denoiser.py",
    "comfy.ldm.modules.attention.optimized_attention": "attention.py",
    "comfy.ldm.modules.attention.optimized_attention_for_device": "text_tower.py",
    "comfy.ldm.modules.diffusionmodules.openaimodel.ResBlock": "autograd.py",
    "comfy.model_management.load_models_gpu": "loading.py",
    "comfy.model_management.current_loaded_models": "loading.py",
    "comfy.model_management.free_memory": "loading.py",
    "comfy.model_management.throw_exception_if_processing_interrupted": "progress.py",
    "comfy.model_patcher.ModelPatcher.add_object_patch": "text_attention.py",
    "comfy.model_patcher.ModelPatcher.add_wrapper_with_key": "attention.py",
    "comfy.model_patcher.ModelPatcher.get_key_patches": "weights.py",
    "comfy.model_patcher.ModelPatcher.get_model_object": "text_attention.py",
    "comfy.model_patcher.ModelPatcher.is_dynamic": "loading.py",
    "comfy.ops.disable_weight_init": "frozen_layers.py",
    "comfy.quant_ops.QuantizedTensor": "autograd.py",
    "comfy.samplers.CFGGuider": "noisy_passes.py",
    "comfy.sd.CLIP.encode_from_tokens_scheduled": "sampling.py",
}
"""What the host promises nobody, and the module of this folder that uses it."""


def host_versions() -> dict[str, str]:
    return {"comfyui": comfyui_version, "torch": str(torch.__version__)}


def host_version() -> tuple[int, ...]:
    """Numbers of the host's version, to compare: (0, 30, 0)."""
    return _numbers(comfyui_version)


def check_host() -> None:
    """Look at the host before anything of it is used.

    Raises PersonalizeError for one that is too old; one that lacks a private name, as a newer one
    may, is told in the log, since most of the pack may still work.
    """
    if host_version() < _numbers(OLDEST):
        raise PersonalizeError(
            f"Personalize needs ComfyUI {OLDEST} or newer, and this is {comfyui_version}. Update "
            "ComfyUI, and its requirements with it."
        )
    lacking = [name for name in PRIVATE_NAMES if not _is_there(name)]
    if lacking:
        logging.warning(
            f"Personalize relies on {', '.join(lacking)}, which this ComfyUI {comfyui_version} "
            "does not have: some of its nodes will fail. Update Personalize."
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _is_there(name: str) -> bool:
    """Whether a dotted name leads to something: a module, then attributes of it."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        return all((found := getattr(found, part, None)) is not None for part in parts[end:])
    return False
