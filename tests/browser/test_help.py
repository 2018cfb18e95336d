"""The help page of a node as people open it, with its picture."""

import pytest

pytestmark = [pytest.mark.server, pytest.mark.browser]

TITLE = """id => {
    const { canvas, ds } = app.canvas
    const [x, y] = app.graph.getNodeById(id).pos
    const { left, top } = canvas.getBoundingClientRect()
    return [left + (x + 80 + ds.offset[0]) * ds.scale, top + (y - 12 + ds.offset[1]) * ds.scale]
}"""
"""The middle of a node's title, in the window."""

LOADED = "image => image.decode().then(() => image.naturalWidth)"


def test_the_help_of_a_node_shows_its_inputs_and_its_picture(page):
    node = page.add_node("PersonalizeApplyConcept", (0, 0))
    page.center_on(node)
    page.tab.mouse.click(*page.tab.evaluate(TITLE, node))
    page.find("[data-testid=info-button]").click()
    help_page = page.find(".node-help-content")
    help_page.get_by_text("local_strength").first.wait_for()
    assert help_page.locator("img").first.evaluate(LOADED) > 300
