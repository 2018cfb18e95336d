"""The host tests on other versions of ComfyUI: make matrix

Each version gets its checkout and an environment in .host/versions, which takes torch and all else
that fits from the .venv and adds what that version asks for. Its models of examples, frontend and
documentation stay out: tests of a server and a browser run on the pinned version, and on the newest
one in CI.

    python tools/run.py matrix                                the oldest, one between, the pinned
    python tools/run.py matrix 0.16.3 0.27.0                  some
    python tools/run.py matrix --all -- tests/host -k sam     all that can be had, other tests
    python tools/run.py matrix --frontend 1.58.1              a newer page on the pinned version
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cli.comfyui import ROOT, checkout_version
from .get_host import SDISTS, VERSION, get_host, get_version
from .server.server import FRONTEND
from .setup import PYTHON

FOLDER = ROOT / ".host" / "versions"
FRONTENDS = ROOT / ".host" / "frontends"
CHOSEN = ("0.16.3", "0.24.1", "0.30.0")
TESTS = (
    *("tests/host", "tests/nodes", "tests/samplers", "tests/training", "tests/segment"),
    *("-m", "host and not (server or browser or slow)"),
)
PAGES = ("tests/browser", "-m", "browser")
"""Tests of another frontend."""
NOT_NEEDED = re.compile(r"comfyui-|torch(vision|audio)?\b|#")
"""Requirements of a host that these tests do without, or have from the .venv."""


@dataclass(frozen=True)
class Outcome:
    version: str
    passed: bool
    last_line: str
    seconds: float

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        return f"ComfyUI {self.version:<8} {verdict:<8} {self.last_line}"


def requirements_of(host: Path) -> list[str]:
    """What a host asks for beside torch and its own data packages, a requirement each."""
    lines = (host / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not NOT_NEEDED.match(line.strip())]


def environment(version: str, host: Path) -> Path:
    """Python of the version's environment, which finds in the .venv what it does not have."""
    folder = FOLDER / version / "venv"
    stamp, wanted = folder / "installed.txt", "\n".join([sys.version, *requirements_of(host)])
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    python = Path(paths["scripts"]) / PYTHON.name
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"making an environment for ComfyUI {version}", flush=True)
        subprocess.run([PYTHON, "-m", "venv", "--clear", folder], check=True)
        (Path(paths["purelib"]) / "shared.pth").write_text(sysconfig.get_path("purelib"))
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements_of(host)], check=True)
        stamp.write_text(wanted)
    return python


def checkout(version: str) -> Path:
    """The version's ComfyUI, downloaded when it is not there yet."""
    place = FOLDER / version / "ComfyUI"
    return place if checkout_version(place) == version else get_version(version, place)


def frontend(version: str) -> Path:
    """The page that a version of the frontend's package holds, downloaded when it is not there."""
    folder = FRONTENDS / version
    page = folder / "comfyui_frontend_package" / "static"
    if not page.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        subprocess.run([*pip, f"comfyui-frontend-package=={version}"], check=True)
    return page


def run(version: str, tests: Sequence[str]) -> Outcome:
    host = checkout(version)
    return _run(version, environment(version, host), tests, {"COMFYUI_PATH": str(host)})


def run_frontend(version: str, tests: Sequence[str]) -> Outcome:
    """Tests of a page on the host that all other tests run on."""
    told = f"{VERSION} with frontend {version}"
    own = {"COMFYUI_PATH": str(get_host()), FRONTEND: str(frontend(version))}
    return _run(told, PYTHON, tests, {**own, "PERSONALIZE_BROWSER": "required"})


def _run(version: str, python: Path, tests: Sequence[str], own: dict[str, str]) -> Outcome:
    """Run tests with a Python and what our own variables say."""
    command = [python, "-m", "pytest", "-q", "--tb=line", *tests]
    print(f"== ComfyUI {version}", flush=True)
    begun, last = time.monotonic(), ""
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip() if re.search(r"\d+ (passed|failed|error)", line) else last
    return Outcome(version, process.wait() == 0, last, time.monotonic() - begun)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="matrix", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of {', '.join(SDISTS)}")
    parser.add_argument("--all", action="store_true", help="every version that can be had")
    parser.add_argument("--frontend", metavar="VERSION", help="tests of the browser on its page")
    own, tests = _parted(arguments)
    options = parser.parse_args(own)
    versions = options.versions or (list(SDISTS) if options.all else list(CHOSEN))
    if unknown := [version for version in versions if version not in SDISTS]:
        parser.error(f"PyPI has no ComfyUI {', '.join(unknown)}. Set COMFYUI_PATH to a checkout")
    if options.frontend:
        outcomes = [run_frontend(options.frontend, tests or PAGES)]
    else:
        outcomes = [run(version, tests or TESTS) for version in versions]
    print("\n" + "\n".join(map(str, outcomes)))
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def _parted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and those of pytest behind a double dash."""
    at = list(arguments).index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])
