"""Run a command of this folder with the pack importable: python tools/run.py demo [arguments]

The command is `main(arguments)` of the module or package of that name, here or one folder down.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from alias import register_pack

TOOLS = Path(__file__).resolve().parent


def module_of(command: str) -> str:
    """`personalize.tools.studies.study` for `study`."""
    for place in (f"{command}.py", f"{command}/__init__.py", f"*/{command}.py"):
        for file in TOOLS.glob(place):
            parts = file.relative_to(TOOLS).with_suffix("").parts
            return ".".join(["personalize.tools", *(p for p in parts if p != "__init__")])
    sys.exit(f"There is no command {command!r} in tools/ or a folder of it.")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    register_pack()
    sys.exit(importlib.import_module(module_of(sys.argv[1])).main(sys.argv[2:]))
