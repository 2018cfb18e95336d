"""Pack what a bare GPU machine lacks for `make gpu`: wheels, and ComfyUI as .tar.xz.

    python tools/run.py pack_gpu           fills .gpu, and tells the command to run there

The machine has torch, torchvision, transformers, accelerate, einops, scipy, aiohttp and pytest, and
cannot install anything. The wheels have the versions of this environment.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from ..bench.on_gpu.bare import HOST_ARCHIVE, WHEELS
from ..cli.comfyui import ROOT
from .get_host import get_host

FOLDER = ROOT / ".gpu"
NEEDED = (
    *("torchsde", "trampoline", "alembic", "Mako", "MarkupSafe", "SQLAlchemy", "greenlet"),
    *("pydantic", "pydantic_core", "annotated-types", "typing_extensions", "typing-inspection"),
    *("segment-anything", "comfy-aimdo", "comfy-kitchen"),
    *("diffusers", "importlib_metadata", "lazy-importer", "zipp"),  # the reference
    *("hypothesis", "sortedcontainers"),  # tests
)
ANY_PLATFORM = {"comfy-kitchen"}  # the one for CUDA has 45 MB and does nothing more for us
OTHERS = {"models", "output", "input", "temp", "user", "custom_nodes", "tests", "tests-unit"}
LEFT_OUT = {".git", "__pycache__"}
MOST = 64 * 2**20
COMMAND = "python3 tools/run.py gpu --packed {folder} --output gpu.md"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="pack_gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--python", default="3.12", help="version of Python there")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    pack_host(get_host(), options.folder / HOST_ARCHIVE)
    missing = [name for name in NEEDED if not get_wheel(name, options.folder, options.python)]
    size = sum(file.stat().st_size for file in options.folder.rglob("*") if file.is_file())
    print(f"{options.folder}: {size / 2**20:.1f} MB")
    if missing:
        print(f"not found: {', '.join(missing)}", file=sys.stderr)
    if size > MOST:
        print(f"Expected at most {MOST >> 20} MB.", file=sys.stderr)
    folder = options.folder
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    print(f"run there: {COMMAND.format(folder=shown)}")
    return 1 if missing or size > MOST else 0


def get_wheel(name: str, folder: Path, python: str) -> bool:
    """Download one wheel for Linux, in this environment's version where it has one."""
    try:
        pinned = f"{name}=={importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        pinned = name
    platforms = ["any"] if name in ANY_PLATFORM else [
        *(f"manylinux_2_{n}_x86_64" for n in (28, 17)), "manylinux2014_x86_64",
    ]  # fmt: skip
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--dest"]
    where = [word for platform in platforms for word in ("--platform", platform)]
    line = [*command, *options, str(folder / WHEELS), *where, pinned]
    return subprocess.run(line).returncode == 0


def pack_host(host: Path, archive: Path) -> None:
    """The checkout's own files, without models and other people's."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(member.name).parts
        others = len(parts) > 1 and parts[1] in OTHERS
        return None if others or LEFT_OUT & set(parts) else member

    part = archive.with_suffix(".part")
    with tarfile.open(part, "w:xz") as tar:
        tar.add(host.resolve(), arcname="ComfyUI", filter=kept)
    part.replace(archive)
