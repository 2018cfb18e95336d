"""What the host waits for at its start."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parents[2]
START = """
import asyncio, importlib, runpy, sys

runpy.run_path(sys.argv[1])["register_pack"]()
from personalize.cli.comfyui import prepare_host

prepare_host(True)
import comfy.sd, comfy.sample, comfy.clip_vision, comfy_api.latest, latent_preview, node_helpers
import nodes, server  # what the host has imported when it comes to the packs

before = set(sys.modules)
extension = asyncio.run(importlib.import_module("personalize").comfy_entrypoint())
asyncio.run(extension.on_load())
found = asyncio.run(extension.get_node_list())
for node in found:
    node.GET_SCHEMA()
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(len(found), *sorted(new - set(sys.stdlib_module_names)))
"""


def test_the_pack_starts_with_what_the_host_has_imported_already():
    """So it costs no time to speak of: transformers, scipy or torchvision would take seconds."""
    line = [sys.executable, "-c", START, str(ROOT / "cli" / "run.py")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, *new = done.stdout.splitlines()[-1].split()
    assert int(count) > 10
    assert new == ["personalize"]
