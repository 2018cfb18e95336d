"""Run a command of this folder with the pack importable: python tools/run.py demo [arguments]

The pack's folder may have any name and must not lie on sys.path (its `nodes` would hide the
host's), so it is registered as package `personalize`; the command is `personalize.tools.<name>.main`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def register_pack() -> None:
    """Make the repository importable as package `personalize`, and take it off sys.path."""
    sys.path[:] = [p for p in sys.path if p and Path(p).resolve() not in (ROOT, ROOT / "tools")]
    spec = importlib.util.spec_from_file_location(
        "personalize", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    sys.modules["personalize"] = pack
    spec.loader.exec_module(pack)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    register_pack()
    sys.exit(importlib.import_module(f"personalize.tools.{sys.argv[1]}").main(sys.argv[2:]))
