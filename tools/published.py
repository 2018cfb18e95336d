"""Which files of the repository users get."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ..cli.comfyui import ROOT


def published(root: Path = ROOT) -> list[str]:
    """Files of the repository that the registry packs: those in git that .comfyignore leaves."""
    ignored = _git(root, "--cached", "--ignored", "--exclude-from=.comfyignore")
    return sorted(_git(root) - ignored)


def _git(root: Path, *options: str) -> set[str]:
    command = ["git", "ls-files", "-z", *options]
    done = subprocess.run(
        command, cwd=root, check=True, stdout=subprocess.PIPE, encoding="utf-8"
    )  # as git writes names, whatever the system's own encoding is
    return set(done.stdout.split("\0")) - {""}
