"""Versions that a trained concept remembers."""

import torch
from comfyui_version import __version__ as comfyui_version


def host_versions() -> dict[str, str]:
    return {"comfyui": comfyui_version, "torch": str(torch.__version__)}
