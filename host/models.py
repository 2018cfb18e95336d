"""Models from files, for programs that run outside of the host's server."""

import asyncio
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.clip_vision
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from safetensors import safe_open

from ..concepts.errors import BaseModelError


def load_pack(folder: Path) -> ModuleType:
    """Load a folder of custom nodes as the host does at its start, so that it can register shapes.

    Returns its module. A pack may have `load_clip_vision(path) -> CLIP_VISION` for files that the
    host's own loader does not know.
    """
    init = folder / "__init__.py"
    if not init.is_file():
        raise BaseModelError(f"There is no {init}. Name a folder of custom nodes.")
    name = f"personalize_host_pack_{folder.resolve().name}"
    spec = importlib.util.spec_from_file_location(
        name, init, submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    sys.modules[name] = pack
    spec.loader.exec_module(pack)
    entry = getattr(pack, "comfy_entrypoint", None)
    if entry is not None:
        asyncio.run(_started(entry))
    return pack


async def _started(entry: Any) -> None:
    extension = entry()
    if inspect.isawaitable(extension):
        extension = await extension
    await extension.on_load()


@torch.inference_mode()
def load_checkpoint(path: Path) -> tuple[ModelPatcher, CLIP, VAE]:
    """MODEL, CLIP and VAE as Load Checkpoint gives them."""
    check_file(path, "a checkpoint")
    try:
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(path))
    except RuntimeError as error:
        raise BaseModelError(f"{path} is no checkpoint that ComfyUI can load: {error}") from error
    if model is None or clip is None or vae is None:
        raise BaseModelError(f"{path} lacks the model, the CLIP or the VAE. Name a whole one.")
    return model, clip, vae


def check_projection(path: Path, advice: str) -> None:
    """Refuse a checkpoint whose text encoder lacks its projection into CLIP's space.

    Most of SD1.x lack it. The host leaves it uninitialised then, and nothing tells so later.
    advice: a sentence that says what needs the projection, and what to do without one
    """
    keys: list[str] = []
    if path.suffix == ".safetensors" and path.is_file():
        with safe_open(path, "pt") as file:
            keys = list(file.keys())
    # of several text encoders the last one's is read; clip_l's is of no use
    second = [key for key in keys if key.startswith("conditioner.embedders.1.")]
    ends = ("text_projection", "text_projection.weight")
    if not any(key.endswith(ends) for key in second or keys):
        raise BaseModelError(
            f"{path} has no projection of its text encoder into CLIP's space, or is no "
            f".safetensors. {advice}"
        )


@torch.inference_mode()
def load_vision(path: Path, packs: list[ModuleType]) -> Any:
    """CLIP_VISION as Load CLIP Vision gives it, or as the first pack that has a loader does."""
    check_file(path, "a CLIP vision encoder")
    for pack in packs:
        if hasattr(pack, "load_clip_vision"):
            return pack.load_clip_vision(str(path))
    vision = comfy.clip_vision.load(str(path))
    if vision is None:
        raise BaseModelError(f"{path} is no CLIP vision encoder that ComfyUI can load.")
    return vision


def check_file(path: Path, what: str) -> None:
    """Raise BaseModelError where there is no file; what: it holds, in words."""
    if not path.is_file():
        raise BaseModelError(f"There is no {path}. Name the file of {what}.")
