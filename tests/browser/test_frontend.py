"""The harness itself: the frontend starts with the pack, runs a workflow, and errors are seen."""

import pytest
from personalize.tests.test_server import text_to_image
from personalize.tools.server.page import Renderer

pytestmark = [pytest.mark.server, pytest.mark.browser]


def test_a_workflow_is_loaded_queued_and_shows_its_picture(page, renderer):
    page.load_prompt(text_to_image("tiny_sd1.safetensors", "a photo of a dog"))
    assert page.find("[data-node-id]").count() == (7 if renderer is Renderer.NODES_2 else 0)
    run = page.run()
    assert run.files("images")
    assert page.errors == []


@pytest.mark.parametrize("renderer", [Renderer.CANVAS])
def test_an_error_in_the_console_is_noted(page):
    page.tab.evaluate("console.error('Cannot read properties of undefined')")
    with page.tab.expect_event("pageerror"):
        page.tab.evaluate("setTimeout(() => { throw new Error('thrown later') })")
    first, second = page.errors
    assert "Cannot read properties" in first and "thrown later" in second
    page.errors.clear()
