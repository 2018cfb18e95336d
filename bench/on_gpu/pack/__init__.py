"""A node pack for the server of the GPU bench: pictures without files, and what models draw.

Stock nodes would need PyAV to load a picture, and the host would answer a second run from its
cache: `nonce` is an input that nothing depends on.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import folder_paths
import torch
from aiohttp import web
from comfy.clip_vision import ClipVisionModel
from safetensors import safe_open
from server import PromptServer

GIB = 2**30
NONCE = ("INT", {"default": 0})


class BenchPictures:
    """Smooth noise, a picture of it for each number, with a mask on its middle."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {"count": ("INT", {"default": 2}), "size": ("INT", {"default": 512}),
                         "seed": ("INT", {"default": 0}), "nonce": NONCE}
        }
    )  # fmt: skip
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "make"
    CATEGORY = "bench"

    def make(self, count: int, size: int, seed: int, nonce: int) -> tuple[Any, Any]:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 3, 8, 8, generator=generator)
        pictures = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
        masks = torch.zeros(count, size, size)
        masks[:, size // 4 : -size // 4, size // 4 : -size // 4] = 1
        return pictures.movedim(1, -1).contiguous(), masks


class BenchVision:
    """A CLIP vision encoder of any shape: its config stands in the file."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"name": ("STRING", {"default": ""})}})
    RETURN_TYPES = ("CLIP_VISION",)
    FUNCTION = "load"
    CATEGORY = "bench"

    def load(self, name: str) -> tuple[Any]:
        path = folder_paths.get_full_path_or_raise("clip_vision", name)
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["config"])
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        vision = ClipVisionModel(config)
        vision.load_sd(weights)
        return (vision,)


class BenchDraw:
    """Encode and decode a picture, and draw one with the stock nodes; tells digests of both."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {"model": ("MODEL",), "clip": ("CLIP",), "vae": ("VAE",),
                         "prompt": ("STRING", {"default": ""}), "steps": ("INT", {"default": 4}),
                         "size": ("INT", {"default": 512}), "nonce": NONCE}
        }
    )  # fmt: skip
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "draw"
    CATEGORY = "bench"

    def draw(
        self, model: Any, clip: Any, vae: Any, prompt: str, steps: int, size: int, nonce: int
    ) -> dict[str, Any]:
        import nodes

        (positive,) = nodes.CLIPTextEncode().encode(clip, prompt)
        (negative,) = nodes.CLIPTextEncode().encode(clip, "")
        (empty,) = nodes.EmptyLatentImage().generate(size, size)
        (latent,) = nodes.common_ksampler(
            model, 1, steps, 5.0, "euler", "normal", positive, negative, empty
        )
        (picture,) = nodes.VAEDecode().decode(vae, latent)
        (again,) = nodes.VAEEncode().encode(vae, picture)
        tensors = (latent["samples"], picture, again["samples"])
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
        return {"ui": {"digest": [_digest(tensors)], "finite": [finite]}}


class BenchMask:
    """Tells what share of a mask is set."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"mask": ("MASK",)}})
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "tell"
    CATEGORY = "bench"

    def tell(self, mask: torch.Tensor) -> dict[str, Any]:
        return {"ui": {"finite": [bool(torch.isfinite(mask).all())], "share": [mask.mean().item()]}}


def _digest(tensors: tuple[torch.Tensor, ...]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@PromptServer.instance.routes.get("/bench/memory")
async def memory(_: web.Request) -> web.Response:
    """GiB at the peak since the last question: torch's on a GPU, else what is resident."""
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / GIB
        torch.cuda.reset_peak_memory_stats()
    else:
        peak = _resident_peak()
    return web.json_response({"peak": peak})


def _resident_peak() -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 / GIB for line in lines if line.startswith("VmHWM"))


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "BenchPictures": BenchPictures,
    "BenchVision": BenchVision,
    "BenchDraw": BenchDraw,
    "BenchMask": BenchMask,
}
__all__ = ["NODE_CLASS_MAPPINGS"]
