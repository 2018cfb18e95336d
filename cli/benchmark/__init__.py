"""Every method on every subject and prompt, on a running ComfyUI; scores as CSV and one HTML page.

    python cli/run.py benchmark SUBJECTS --checkpoint NAME --clip FOLDER

docs/benchmark.md tells the rest.
"""

from .command import main

__all__ = ["main"]
