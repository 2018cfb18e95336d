"""Run a command of this folder with the pack importable: python tools/run.py demo [arguments]

The command is `personalize.tools.<name>.main(arguments)`.
"""

from __future__ import annotations

import importlib
import sys

from alias import register_pack

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    register_pack()
    sys.exit(importlib.import_module(f"personalize.tools.{sys.argv[1]}").main(sys.argv[2:]))
