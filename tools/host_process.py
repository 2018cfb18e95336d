"""ComfyUI inside this process, for tests and tools that need no server."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

MODEL_FOLDERS = (
    *("checkpoints", "clip_vision", "concepts", "elite", "embeddings"),
    *("loras", "sams", "text_encoders", "vae"),
)


def make_base_directory(base: Path | None = None) -> Path:
    """A ComfyUI base directory with its folders; a temporary one when none is named."""
    base = (base or Path(tempfile.mkdtemp(prefix="personalize-"))).resolve()
    for folder in ("input", "output", "temp", "custom_nodes"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for folder in MODEL_FOLDERS:
        (base / "models" / folder).mkdir(parents=True, exist_ok=True)
    return base


def prepare_host(host: Path, base_directory: Path, cpu: bool = True) -> None:
    """Make a checkout importable with its folders in base_directory.

    Imports nothing of it but its options, and must come before any other import of it.
    """
    sys.path.insert(0, str(host))
    from comfy.cli_args import args

    args.cpu = cpu
    args.base_directory = str(base_directory)
    args.database_url = "sqlite:///:memory:"
