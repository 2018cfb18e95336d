"""All static checks in one go: ruff, ruff format, pyright, and the direction of imports.

python tools/check.py              check
python tools/check.py --fix        let ruff repair what it can, then check
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from setup import PYTHON, ROOT
from setup import main as set_up


def link_alias() -> None:
    """.host/alias/personalize -> the repository, where pyright finds the name that tests import."""
    link = ROOT / ".host" / "alias" / "personalize"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(Path("..") / "..", target_is_directory=True)


def main() -> int:
    fix = ["--fix"] if "--fix" in sys.argv[1:] else []
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


if __name__ == "__main__":
    sys.exit(main())
