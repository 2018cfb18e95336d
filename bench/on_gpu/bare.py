"""The GPU bench on a machine that has torch and nothing of ours, and can install nothing.

`python tools/run.py pack_gpu` fills a folder: wheels, and ComfyUI as .tar.xz. Here they are
unpacked beside each other, and the same command runs again with them on its path.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ...cli.comfyui import ROOT

HOST_ARCHIVE, WHEELS = "ComfyUI.tar.xz", "wheels"

STOOD_IN_FOR = ("av", "torchaudio")
STAND_IN = '''\
"""Stands in for a package that the host imports at its start and needs for other people's files."""

import importlib.abc
import importlib.machinery
import sys
import types


class _Dummies(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Dummies(name, (Exception,), {})


class _Module(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Dummies(name, (Exception,), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.startswith(__name__ + "."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, _Finder())
__version__ = "0"


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Dummies(name, (Exception,), {})
'''


def run_again(packed: Path, arguments: Sequence[str]) -> int:
    """Unpack what was packed, and run the bench with it in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="personalize-packed-") as folder:
        environment = {**os.environ, **unpacked(packed, Path(folder))}
        line = [sys.executable, str(ROOT / "tools" / "run.py"), "gpu", *arguments]
        return subprocess.run(line, env=environment).returncode


def unpacked(packed: Path, folder: Path) -> dict[str, str]:
    """Unpack wheels and ComfyUI into a folder; the environment variables that make them known."""
    site = folder / "site"
    site.mkdir(parents=True)
    for wheel in sorted((packed / WHEELS).glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    for name in STOOD_IN_FOR:
        if find_spec(name) is None:
            (site / name).mkdir()
            (site / name / "__init__.py").write_text(STAND_IN, encoding="utf-8")
    known = {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}
    archive = packed / HOST_ARCHIVE
    if archive.is_file() and "COMFYUI_PATH" not in os.environ:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        known["COMFYUI_PATH"] = str(folder / "ComfyUI")
    return known
