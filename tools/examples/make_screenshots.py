"""Draw docs/workflows and web/docs/pictures: examples and nodes as the browser shows them.

    python tools/run.py make_screenshots [name ...]

Each miniature example is opened in Chromium, on a server of its own, run to its end, and taken
whole; then each node of the pack in it, for the help page that has no picture yet. Nodes that no
miniature example has are taken from an example for Stable Diffusion, or alone, unrun.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...cli.comfyui import ROOT
from ..demo import PACKS
from ..get_host import get_host
from ..server.page import ComfyPage, Renderer, chromium
from ..server.server import ComfyServer
from .make_examples import FOLDER
from .make_thumbnails import PATIENCE, in_order
from .miniature_examples import base_for_examples

WORKFLOWS, NODES = ROOT / "docs" / "workflows", ROOT / "web" / "docs" / "pictures"
WIDTH, HEIGHT = 1600, 1000
DENSITY = 2  # pixels of the screen for each of the page
SCALE = 0.75  # of a node in its help page, which is narrow
MARGIN = 12
PERSONALIZE = "Personalize"

SETTLED = """() => [...document.querySelectorAll("[data-node-id] img")]
    .every(image => image.complete)"""
NODES_SHOWN = "() => app.graph.nodes.map(node => [node.type, node.id])"
CONTENT = """ids => {
    const boxes = [...document.querySelectorAll("[data-node-id]")]
        .filter(e => ids === null || ids.map(String).includes(e.dataset.nodeId))
        .map(e => e.getBoundingClientRect())
    return [
        Math.min(...boxes.map(b => b.left)), Math.min(...boxes.map(b => b.top)),
        Math.max(...boxes.map(b => b.right)), Math.max(...boxes.map(b => b.bottom)),
    ]
}"""


def take(page: ComfyPage, nodes: Sequence[int] | None = None) -> Image.Image:
    """What is in view around some nodes, or around all."""
    page.tab.wait_for_function(SETTLED)
    page.wait_for_frames(4)
    left, top, right, bottom = (DENSITY * at for at in page.tab.evaluate(CONTENT, nodes))
    whole = Image.open(io.BytesIO(page.tab.screenshot())).convert("RGB")
    box = (left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN)
    inside = (0, 0, whole.width, whole.height)
    first = [max(a, b) for a, b in zip(box[:2], inside[:2], strict=True)]
    last = [min(a, b) for a, b in zip(box[2:], inside[2:], strict=True)]
    return whole.crop((*map(round, first), *map(round, last)))


def slug(name: str) -> str:
    """A template's name as that of a file that pages link to."""
    return name.lower().replace(" ", "-")


def save(picture: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, quality=80, method=6)
    print(file.relative_to(ROOT), picture.size, flush=True)


def take_nodes(page: ComfyPage, missing: set[str]) -> None:
    """The help pictures that are missing and that the shown graph has a node for."""
    for kind, number in page.tab.evaluate(NODES_SHOWN):
        if kind in missing:
            page.center_on(number, SCALE)
            page.find(f"[data-node-id='{number}']").wait_for()
            save(take(page, [number]), NODES / f"{kind}.webp")
            missing.remove(kind)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def main(arguments: Sequence[str]) -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        ComfyServer(get_host(), base_for_examples(Path(folder)), PACKS) as server,
        chromium() as browser,
    ):
        view = browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=DENSITY
        )
        tab = view.new_page()
        page = ComfyPage(tab, server, Renderer.NODES_2)
        page.open()
        kinds = [kind for kind in server.client.object_info() if kind.startswith(PERSONALIZE)]
        missing = set(kinds)
        for path in in_order(arguments):
            page.load(read(path))
            page.run(PATIENCE)
            page.fit_view()
            save(take(page), WORKFLOWS / f"{slug(path.stem)}.webp")
            take_nodes(page, missing)
        for path in sorted(FOLDER.glob("*.json")) if not arguments else []:
            page.load(read(path))
            take_nodes(page, missing)
        for kind in sorted(missing) if not arguments else []:
            page.clear()
            page.add_node(kind, (0, 0))
            take_nodes(page, missing)
    return 0
