"""Set up everything for tests and demo: a .venv, a ComfyUI checkout, and what both need.

    make setup                            (python3 tools/run.py setup)

Runs with any Python from 3.10 on. A second run finds everything in place and returns at once; it
installs again when a requirement file has changed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..cli.comfyui import ROOT

VENV = ROOT / ".venv"
STAMP = VENV / "installed.sha256"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
REQUIREMENTS = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]


def main(arguments: Sequence[str] = ()) -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - this runs on any Python, to say so
        print(f"Expected Python 3.10 or newer, got {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    try:
        set_up()
    except subprocess.CalledProcessError as error:
        print(f"Set-up failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    return 0


def set_up() -> None:
    if not PYTHON.is_file():
        print("creating .venv", flush=True)
        # Debian keeps venv in a package of its own; its own message says which one.
        _run(sys.executable, "-m", "venv", VENV)
    host = _host()
    files = [*REQUIREMENTS, host / "requirements.txt"]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    if STAMP.is_file() and STAMP.read_text() == digest:
        return
    print("installing requirements into .venv (minutes, the first time)", flush=True)
    options = [word for file in files for word in ("-r", file)]
    _run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options)
    STAMP.write_text(digest)


def _host() -> Path:
    """The ComfyUI checkout; pip of the .venv downloads it when there is none."""
    command = [PYTHON, ROOT / "tools" / "run.py", "get_host"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.splitlines()[-1])


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)
