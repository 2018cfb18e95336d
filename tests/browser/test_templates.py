"""Every template as a new user opens it, and after a run: nothing missing, nothing red, no node
over another, and the whole of it in the window."""

import json
from pathlib import Path

import pytest
from personalize.tests.browser.boxes import drawn_boxes, overlapping
from personalize.tools.examples.files import put_files

pytestmark = [pytest.mark.server, pytest.mark.browser, pytest.mark.slow]

FOLDER = Path(__file__).parents[2] / "example_workflows"
EXAMPLES = sorted(FOLDER.glob("*.json"))
WINDOW = {"width": 1920, "height": 970}  # of a browser that fills a full HD screen
SMALLEST_ZOOM = 0.7
LOOK = """() => app.graph.nodes.map(node => ({
    id: String(node.id),
    type: node.type,
    known: node.type in LiteGraph.registered_node_types,
    red: Boolean(node.has_errors),
    unlisted: (node.widgets ?? [])
        .filter(w => w.type === "combo" && Array.isArray(w.options?.values))
        .filter(w => !w.options.values.includes(w.value))
        .map(w => w.name),
}))"""
TELLING = ["SaveConcept", "SegmentSubject", "EncodeELITE", "Evaluate"]
RUN = """async ([picture, tell]) => {
    const { api } = await import("/scripts/api.js")
    const text = "saved as my-dog.safetensors, 12 kB, in output/concepts"
    for (const node of app.graph.nodes) {
        const id = String(node.id)
        if (["SaveImage", "PersonalizeSegmentSubject", "PersonalizeCompare"].includes(node.type))
            api.dispatchCustomEvent("executed",
                { node: id, display_node: id, output: { images: [picture] }, prompt_id: "" })
        if (tell.includes(node.type))
            api.dispatchCustomEvent("personalize.told", { node: id, text })
    }
}"""
"""What a run leaves on the nodes: pictures, and what the server tells."""
ROOM = """() => {
    const { width, height } = app.canvas.canvas.getBoundingClientRect()
    const menu = document.querySelector(".comfyui-body-top")?.getBoundingClientRect().height ?? 0
    return [width, height - menu]
}"""


@pytest.fixture(autouse=True)
def files(server):
    """The files that the examples name, as far as the server has none."""
    put = put_files(server.base_directory)
    yield
    for path in put:
        path.unlink()


def on_others(nodes):
    """The types of the nodes of which one lies on the other."""
    types = {node["id"]: node["type"] for node in nodes}
    pairs = overlapping({node["id"]: node["box"] for node in nodes})
    return [(types[one], types[other]) for one, other in pairs]


def look(page):
    """The nodes, as large as they are drawn."""
    boxes = drawn_boxes(page)
    return [{**node, "box": boxes[node["id"]]} for node in page.tab.evaluate(LOOK)]


def outside(page, nodes):
    """Nodes that do not lie in a group: all of a template do."""
    groups = page.tab.evaluate("app.graph.groups.map(group => [...group._bounding])")

    def holds(bounds, box):
        return all(
            bounds[axis] <= box[axis]
            and box[axis] + box[axis + 2] <= bounds[axis] + bounds[axis + 2]
            for axis in (0, 1)
        )

    return [n["type"] for n in nodes if not any(holds(bounds, n["box"]) for bounds in groups)]


def zoom_of_all(page, nodes):
    """How large the whole graph can be drawn in the window."""
    room = page.tab.evaluate(ROOM)
    sides = [
        max(node["box"][axis] + node["box"][axis + 2] for node in nodes)
        - min(node["box"][axis] for node in nodes)
        for axis in (0, 1)
    ]
    return min(space / side for space, side in zip(room, sides, strict=True))


def test_every_template_opens_whole_and_has_room_for_a_run(page, renderer):
    picture = {"filename": "example.png", "subfolder": "", "type": "input"}
    page.tab.set_viewport_size(WINDOW)
    for path in EXAMPLES:
        page.load(json.loads(path.read_text(encoding="utf-8")))
        page.fit_view()
        nodes = look(page)
        assert nodes and all(node["known"] for node in nodes), path
        assert not [node["type"] for node in nodes if node["red"]], path
        assert not [(node["type"], node["unlisted"]) for node in nodes if node["unlisted"]], path
        assert not on_others(nodes), (path.stem, on_others(nodes))
        assert page.find(".personalize-marks mark").all_inner_texts() == [], path
        page.tab.evaluate(RUN, [picture, [f"Personalize{name}" for name in TELLING]])
        page.wait_for_frames(8)
        nodes = look(page)
        page.screenshot(f"template-{path.stem}-{renderer.value}")
        assert not on_others(nodes), (path.stem, on_others(nodes))
        assert not outside(page, nodes), (path.stem, outside(page, nodes))
        zoom = zoom_of_all(page, nodes)
        assert zoom >= SMALLEST_ZOOM, (path.stem, zoom)
