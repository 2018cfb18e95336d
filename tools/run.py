"""Run a command of the repository: python tools/run.py NAME [arguments]; alone, it lists them.

cli/run.py does it, since that one ships.
"""

from __future__ import annotations

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "cli" / "run.py"), run_name="__main__")
