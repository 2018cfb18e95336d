"""Each template as a new user opens it: nothing missing, nothing red, no node over another."""

import json
from pathlib import Path

import pytest
from personalize.tools.examples.files import put_files

pytestmark = [pytest.mark.server, pytest.mark.browser]

FOLDER = Path(__file__).parents[2] / "example_workflows"
EXAMPLES = sorted(FOLDER.glob("*.json"))
LOOK = """() => app.graph.nodes.map(node => ({
    id: node.id,
    type: node.type,
    known: node.type in LiteGraph.registered_node_types,
    red: Boolean(node.has_errors),
    box: [...node.pos, ...node.size],
    unlisted: (node.widgets ?? [])
        .filter(w => w.type === "combo" && Array.isArray(w.options?.values))
        .filter(w => !w.options.values.includes(w.value))
        .map(w => w.name),
}))"""


@pytest.fixture(autouse=True)
def files(server):
    """The files that the examples name, as far as the server has none."""
    put = put_files(server.base_directory)
    yield
    for path in put:
        path.unlink()


def overlaps(one, other):
    (x, y, width, height), (x2, y2, width2, height2) = one["box"], other["box"]
    return x < x2 + width2 and x2 < x + width and y < y2 + height2 and y2 < y + height


def test_every_template_opens_whole(page, renderer):
    for path in EXAMPLES:
        page.load(json.loads(path.read_text(encoding="utf-8")))
        page.wait_for_frames(4)
        nodes = page.tab.evaluate(LOOK)
        assert nodes and all(node["known"] for node in nodes), path
        assert not [node["type"] for node in nodes if node["red"]], path
        assert not [(node["type"], node["unlisted"]) for node in nodes if node["unlisted"]], path
        over = [
            (one["type"], other["type"])
            for n, one in enumerate(nodes)
            for other in nodes[n + 1 :]
            if overlaps(one, other)
        ]
        assert not over, (path.stem, over)
        page.fit_view()
        page.screenshot(f"template-{path.stem}-{renderer.value}")
