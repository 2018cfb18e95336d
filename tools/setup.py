"""Set up everything for tests and demo: a .venv, a ComfyUI checkout, a Chromium.

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
from .server.page import HOW_TO_GET_IT, on_path

VENV = ROOT / ".venv"
STAMP, BROWSER = VENV / "installed.sha256", VENV / "browser.txt"
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
    if not STAMP.is_file() or STAMP.read_text() != digest:
        print("installing requirements into .venv (minutes, the first time)", flush=True)
        options = [word for file in files for word in ("-r", file)]
        _run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options)
        STAMP.write_text(digest)
    if not BROWSER.is_file():
        BROWSER.write_text(browser() or "none", encoding="utf-8")


def browser() -> str | None:
    """How the tests get a Chromium, tried once: one that is there, Debian's, Playwright's own.

    Without one they are skipped, which set-up tells and does not fail for.
    """
    playwright = [PYTHON, "-m", "playwright", "install", "chromium"]
    ways = {"Playwright's": [[*playwright, *(["--with-deps"] if _is_root() else [])]]}
    if _is_root() and "ID=debian" in _release():
        apt = ["apt-get", "-qq", "-y"]
        ways = {"Debian's": [[*apt, "update"], [*apt, "install", "chromium"]], **ways}
    found = on_path()
    for name, commands in ways.items() if found is None else ():
        print(f"getting {name} Chromium for the tests in a browser", flush=True)
        if all(_succeeds(*command) for command in commands):
            return name
    if found is None:
        print(f"There is no Chromium, so the tests in a browser are skipped: {HOW_TO_GET_IT}, then "
              f"remove {BROWSER.relative_to(ROOT)}", file=sys.stderr)  # fmt: skip
    return found


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _release() -> list[str]:
    file = Path("/etc/os-release")
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def _succeeds(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def _host() -> Path:
    """The ComfyUI checkout; pip of the .venv downloads it when there is none."""
    command = [PYTHON, ROOT / "tools" / "run.py", "get_host"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.splitlines()[-1])


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)
