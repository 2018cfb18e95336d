"""Which ComfyUI there is, and its modules in this process. Standard library only until asked."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = ROOT / ".host" / "ComfyUI"
"""Where set-up unpacks one for tests and tools."""


DEVICE = "PERSONALIZE_DEVICE"
"""Environment variable: `cpu` keeps ComfyUI off a GPU, anything else insists on one."""


class HostError(RuntimeError):
    """No usable ComfyUI, and why."""


def checkout_version(host: Path) -> str | None:
    """Version of a ComfyUI folder, None when it is none."""
    file = host / "comfyui_version.py"
    if not file.is_file() or not (host / "main.py").is_file():
        return None
    found = re.search(r"__version__ = \"(.+)\"", file.read_text(encoding="utf-8"))
    return found.group(1) if found else None


def find_host() -> Path | None:
    """The ComfyUI that COMFYUI_PATH names, else the unpacked one, else None."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().resolve()
        if checkout_version(path) is None:
            raise HostError(f"COMFYUI_PATH is {named}, but there is no ComfyUI (no main.py) there.")
        return path
    return CHECKOUT if checkout_version(CHECKOUT) else None


def needed_host() -> Path:
    """`find_host`, for what cannot do without one. Raises HostError where there is none."""
    host = find_host()
    if host is None:
        raise HostError("There is no ComfyUI: run `make setup`, or set COMFYUI_PATH to one.")
    return host


def has_gpu() -> bool:
    """Does torch see a device that ComfyUI would compute on instead of the CPU?"""
    import torch

    xpu = getattr(torch, "xpu", None)
    other = torch.backends.mps.is_available() or (xpu is not None and xpu.is_available())
    return torch.cuda.is_available() or other


def wants_cpu() -> bool:
    """Shall ComfyUI compute on the CPU? Where there is no GPU, or where PERSONALIZE_DEVICE says so.

    Raises HostError where it names a GPU and there is none.
    """
    named = os.environ.get(DEVICE, "")
    if named == "cpu":
        return True
    if not has_gpu() and named:
        raise HostError(f"{DEVICE} is {named}, but torch sees no GPU here. Unset it, or set cpu.")
    return not has_gpu()


def device_name() -> str:
    """What ComfyUI computes on here, in words."""
    import torch

    if wants_cpu():
        return "the CPU"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "a GPU"


class OnCpu(argparse.Action):
    """The option --cpu: for this process, the servers it starts and the commands it runs."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        told = {"help": "compute on the CPU even where there is a GPU"}
        super().__init__(option_strings, dest, nargs=0, **{**more, **told})

    def __call__(self, *_: Any) -> None:
        os.environ[DEVICE] = "cpu"


def prepare_host(
    cpu: bool | None = None,
    base_directory: Path | None = None,
    host: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Make the modules of the host importable and return its folder; nothing is imported yet.

    cpu: None for `wants_cpu`. Its folders lie in base_directory, or in its own. options: more of
    its command line.
    Comes before any other import of it.
    """
    host = host or needed_host()
    sys.path.insert(0, str(host))
    from comfy.cli_args import args

    args.cpu = wants_cpu() if cpu is None else cpu
    args.base_directory = str(base_directory) if base_directory else None
    args.database_url = "sqlite:///:memory:"
    vars(args).update(options or {})
    # As its main.py does, before its nodes.py puts comfy/, with a utils.py of its own, in front.
    importlib.import_module("utils.extra_config")
    return host
