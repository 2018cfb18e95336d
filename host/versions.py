"""Versions of the host, of which a trained concept and private shapes of the host depend."""

import re

import torch
from comfyui_version import __version__ as comfyui_version


def host_versions() -> dict[str, str]:
    return {"comfyui": comfyui_version, "torch": str(torch.__version__)}


def host_version() -> tuple[int, ...]:
    """Numbers of the host's version, to compare: (0, 30, 0)."""
    return tuple(map(int, re.findall(r"\d+", comfyui_version)[:3]))
