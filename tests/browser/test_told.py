"""The line under a node: all of what the server tells of its run, on the right node."""

import pytest
from personalize.concepts import methods
from personalize.tests.browser.test_concepts import folder, put

__all__ = ["folder"]  # the fixture
pytestmark = [pytest.mark.server, pytest.mark.browser]

TELL = """news => comfyAPI.api.api.dispatchCustomEvent("personalize.told", news)"""
LONG = (
    "saved /home/somebody/ComfyUI/models/loras/pets/my-dog.safetensors (3.2 MB) with a relative "
    "error of 2.1%, and its words to /home/somebody/ComfyUI/models/embeddings. With Load LoRA at "
    "strength 1 write embedding:pets/my-dog dog"
)
WHY = "A Textual Inversion concept changes no weights of the MODEL, so a LoRA cannot hold it."


def tell(page, node, text, failed=False, workflow=None):
    own = page.tab.evaluate("app.rootGraph.id")
    news = {"node": str(node), "text": text, "failed": failed, "workflow": workflow or own}
    page.tab.evaluate(TELL, news)


def test_all_of_it_is_seen_until_the_next_run(page):
    node = page.add_node("PersonalizeSaveLoRA", (0, 0))
    page.center_on(node)
    line = page.find(".personalize-told")
    tell(page, node, "of another workflow, whose node has this number", workflow="another")
    page.wait_for_frames()
    assert line.count() == 0
    for text, failed in ((LONG, False), (WHY, True)):
        tell(page, node, text, failed)
        line.get_by_text(text).wait_for()
        page.tab.wait_for_function(
            "() => (e => e.scrollHeight <= e.clientHeight + 1)"
            "(document.querySelector('.personalize-told'))"
        )
        page.screenshot(f"told-{page.renderer.value}-{failed}")
    page.tab.evaluate("comfyAPI.api.api.dispatchCustomEvent('execution_start', {})")
    line.wait_for(state="hidden")


def test_a_failed_node_says_why(page, folder):
    """The frontend's own message tells the reason under a button."""
    put(folder / "word.safetensors", methods.TEXTUAL_INVERSION, "<word>", "dog")
    load = page.add_node("PersonalizeLoadConcept", (0, 0), concept_name="word.safetensors")
    save = page.add_node("PersonalizeSaveLoRA", (400, 0))
    page.link(load, 0, save, "concept")
    page.load(page.saved())  # of users, workflows have ids
    assert page.wait(page.queue()).status == "error"
    page.find(".personalize-told").get_by_text(WHY).wait_for()
