"""Which ComfyUI there is, and its modules in this process. Standard library only until asked."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = ROOT / ".host" / "ComfyUI"
"""Where set-up unpacks one for tests and tools."""


class HostError(RuntimeError):
    """No usable ComfyUI, and why."""


def host_version(host: Path) -> str | None:
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
        if host_version(path) is None:
            raise HostError(f"COMFYUI_PATH is {named}, but there is no ComfyUI (no main.py) there.")
        return path
    return CHECKOUT if host_version(CHECKOUT) else None


def prepare_host(
    cpu: bool = True,
    base_directory: Path | None = None,
    host: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Make the modules of the host importable and return its folder; nothing is imported yet.

    Its folders lie in base_directory, or in its own. options: more of its command line.
    Comes before any other import of it.
    """
    host = host or find_host()
    if host is None:
        raise HostError("There is no ComfyUI: run `make setup`, or set COMFYUI_PATH to one.")
    sys.path.insert(0, str(host))
    from comfy.cli_args import args

    args.cpu = cpu
    args.base_directory = str(base_directory) if base_directory else None
    args.database_url = "sqlite:///:memory:"
    vars(args).update(options or {})
    return host
