"""Answers of the server that come late, or in another order than they were asked for.

What is drawn follows from what the page does with them, which is the same in both renderers.
"""

import pytest
from personalize.concepts import methods
from personalize.tests.browser.test_concepts import cards, folder, open_sidebar, put
from personalize.tools.server.page import Renderer

__all__ = ["folder"]  # the fixture
pytestmark = [
    *(pytest.mark.server, pytest.mark.browser),
    pytest.mark.parametrize("renderer", [Renderer.CANVAS]),
]

TRASH = ".personalize-top button[title='Trash']"
REFRESH = ".personalize-shelf header button[title='Refresh the list']"
PROMPT, NEXT = "first", "second"
STATUS = {
    "node": "1",
    "steps": 4,
    "rate": None,
    "left": None,
    "resumable": True,
    "note": None,
    "error": "",
    "warning": "",
    "prompts": [],
    "previews": [],
    "saved": [],
    "stride": 1,
}


def test_the_trash_that_comes_late_is_not_drawn_over_the_cards(page):
    open_sidebar(page)
    cards(page).nth(1).wait_for()
    page.hold_answers("/concepts/trash")
    page.find(TRASH).click()
    page.find(TRASH).click()
    assert cards(page).count() == 2
    page.release_answer(0)
    assert cards(page).count() == 2 and page.find(".personalize-state").inner_text() == ""


def test_an_older_list_does_not_replace_a_newer_one(page, folder):
    open_sidebar(page)
    cards(page).nth(1).wait_for()
    page.hold_answers("/personalize/concepts")
    page.find(REFRESH).click()
    page.tab.wait_for_function("held[0]?.there")  # the server has listed two
    put(folder / "new.safetensors", methods.TEXTUAL_INVERSION, "<new>", "dog")
    page.find(REFRESH).click()
    page.release_answer(1)
    cards(page).nth(2).wait_for()
    page.release_answer(0)
    assert cards(page).count() == 3


def test_completion_opens_when_the_shelf_comes_after_what_was_typed(page, folder):
    field = page.add_node("CLIPTextEncode", (0, 0))
    page.center_on(field)
    put(folder / "new.safetensors", methods.TEXTUAL_INVERSION, "<brand-new>", "dog")
    page.find("textarea").first.click()
    page.tab.keyboard.type("a <brand")
    assert page.find(".personalize-completion").count() == 0
    page.tab.evaluate(
        "async () => (await import('/extensions/personalize/concepts/shelf.js')).refreshShelf()"
    )
    page.find(".personalize-completion").get_by_text("<brand-new>").wait_for()


def news(page, prompt, step, stage, start=None):
    """What the server tells of a run, and what it answers, at once."""
    losses = {"loss": [1.0] * (step if start is None else step - start)}
    told = {"prompt": prompt, "step": step, "stage": stage, "start": start or 0, "losses": losses}
    return STATUS | told | {"workflow": page.tab.evaluate("String(app.rootGraph.id ?? '')")}


def tell(page, content):
    page.tab.evaluate(
        """async news => {
            const { api } = await import("/scripts/api.js")
            api.dispatchCustomEvent("personalize.live", news)
        }""",
        content,
    )


def answer(page, *contents):
    """Questions after the history of a run are answered with these, in turn."""
    rest = list(contents)
    page.tab.route("**/personalize/live/run?*", lambda route: route.fulfill(json=rest.pop(0)))


def test_a_history_that_comes_late_hides_no_end_and_no_other_run(page):
    page.add_node("PersonalizeTrainTextualInversion", (0, 0))
    stage = page.find(".personalize-live .stage")
    running = news(page, PROMPT, 3, "running")
    ended = news(page, PROMPT, 4, "finished")
    answer(page, running, ended, ended)
    page.hold_answers("/live/run")
    tell(page, news(page, PROMPT, 3, "running", start=2))  # what came before was missed
    tell(page, news(page, PROMPT, 4, "finished", start=3))  # the last, while that is asked for
    page.release_answer(0)
    stage.get_by_text("Learning").wait_for()
    page.release_answer(1)
    stage.get_by_text("Learned").wait_for()

    # a question after the first run, and a second one begins before it is answered
    page.tab.evaluate(
        """prompt => app.graph.nodes[0].onExecuted({ personalize_live: [prompt, "1"] })""", NEXT
    )
    tell(page, news(page, "third", 1, "running"))
    stage.get_by_text("Learning").wait_for()
    page.release_answer(2)
    assert stage.inner_text() == "Learning"
