"""All static checks in one go: ruff, ruff format, pyright, and the direction of imports.

make check                 check
make check ARGS=--fix          let ruff repair what it can, then check
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..cli.comfyui import ROOT
from .setup import PYTHON
from .setup import main as set_up


def link_alias() -> None:
    """.host/alias/personalize -> the repository, where pyright finds the name that tests import."""
    link = ROOT / ".host" / "alias" / "personalize"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(Path("..") / "..", target_is_directory=True)


def main(arguments: Sequence[str]) -> int:
    fix = ["--fix"] if "--fix" in arguments else []
    if set_up() != 0:
        return 1
    link_alias()
    checks = {
        "ruff check": ["ruff", "check", *fix],
        "ruff format": ["ruff", "format", *([] if fix else ["--check"])],
        "pyright": ["pyright"],
        "imports": ["pytest", "-q", "--no-header", "tests/test_imports.py"],
    }
    failed = []
    for name, (tool, *arguments) in checks.items():
        print(f"== {name}", flush=True)
        command = [str(PYTHON.with_name(tool)), *arguments]
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0
