"""The help page of a node as people open it, with its picture."""

import pytest

pytestmark = [pytest.mark.server, pytest.mark.browser]

LOADED = "image => image.decode().then(() => image.naturalWidth)"


def test_the_help_of_a_node_shows_its_inputs_and_its_picture(page):
    node = page.add_node("PersonalizeApplyConcept", (0, 0))
    page.center_on(node)
    page.select(node)
    page.find("[data-testid=info-button]").click()
    help_page = page.find(".node-help-content")
    help_page.get_by_text("local_strength").first.wait_for()
    assert help_page.locator("img").first.evaluate(LOADED) > 300
