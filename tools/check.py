"""All static checks in one go: ruff, pyright, imports, Markdown's layout, eslint and tsc.

    make check                 check
    make check ARGS=--fix      let ruff and mdformat repair what they can, then check

The last two look at web/*.js, where node is on the PATH; tools/javascript has their settings.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..cli.comfyui import ROOT
from .setup import PYTHON
from .setup import main as set_up

PAGES = (ROOT, ROOT / "docs", ROOT / "miniature", ROOT / "web" / "docs")
WRITTEN_BY_COMMANDS = {"study.md", "gpu.md"}
JAVASCRIPT = ROOT / "tools" / "javascript"


def link_alias() -> None:
    """.host/alias/personalize -> the repository, where pyright finds the name that tests import."""
    link = ROOT / ".host" / "alias" / "personalize"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(Path("..") / "..", target_is_directory=True)


def pages() -> list[str]:
    """Markdown that people write; what commands write is laid out as they do it."""
    found = sorted(page for folder in PAGES for page in folder.glob("*.md"))
    return [str(page) for page in found if page.name not in WRITTEN_BY_COMMANDS]


def javascript_tools() -> str | None:
    """Install eslint and tsc beside their settings, as the lock file has them; None when node is
    missing, else npm's complaint or an empty text."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    stamp, lock = JAVASCRIPT / "node_modules" / "installed.txt", JAVASCRIPT / "package-lock.json"
    if stamp.is_file() and stamp.read_bytes() == lock.read_bytes():
        return ""
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(install, cwd=JAVASCRIPT, capture_output=True, text=True)
    if done.returncode != 0:
        return f"npm could not install them: {done.stderr.strip()[-300:]}"
    stamp.write_bytes(lock.read_bytes())
    return ""


def javascript_checks() -> dict[str, list[str]]:
    """The checks of web/*.js, left out with a sentence where they cannot be had; never in CI."""
    problem = javascript_tools()
    if problem == "":
        modules = JAVASCRIPT / "node_modules"
        settings = str(JAVASCRIPT / "eslint.config.js")
        return {
            "eslint": ["node", str(modules / "eslint/bin/eslint.js"), "--config", settings, "web"],
            "tsc": ["node", str(modules / "typescript/bin/tsc"), "-p", str(JAVASCRIPT)],
        }
    told = problem or "there is no node and npm on the PATH"
    if os.environ.get("CI"):
        print(f"eslint and tsc are needed here, but {told}", file=sys.stderr)
        return {"eslint and tsc": [str(PYTHON), "-c", "raise SystemExit(1)"]}
    print(f"eslint and tsc are left out: {told}", flush=True)
    return {}


def main(arguments: Sequence[str]) -> int:
    fix = ["--fix"] if "--fix" in arguments else []
    if set_up() != 0:
        return 1
    link_alias()
    python = {
        "ruff check": ["ruff", "check", *fix],
        "ruff format": ["ruff", "format", *([] if fix else ["--check"])],
        "pyright": ["pyright"],
        "mdformat": ["mdformat", *([] if fix else ["--check"]), *pages()],
        "imports": ["pytest", "-q", "--no-header", "tests/test_imports.py"],
    }
    checks = {
        name: [str(PYTHON.with_name(tool)), *words] for name, (tool, *words) in python.items()
    }
    failed = []
    for name, command in {**checks, **javascript_checks()}.items():
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0
