"""Saved concepts at hand: the sidebar, completion of placeholders, what to write on the nodes."""

import shutil

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.files import save_concept
from personalize.host.card_pictures import write_pictures

pytestmark = [pytest.mark.server, pytest.mark.browser]

TAB = "personalize-concepts-tab-button"
TAB_BUTTON = f".{TAB}, [data-testid={TAB}]"  # a class up to frontend 1.47 at least, then a test id
TOAST = ".p-toast-message, [data-testid=toast]"  # so are messages
HOSTILE = "<img src=x onerror=document.title='hacked'>"


@pytest.fixture(autouse=True)
def folder(server):
    """The server's concepts folder with two concepts, as it was found afterwards."""
    folder = server.base_directory / "output" / "concepts"
    shutil.rmtree(folder, ignore_errors=True)
    put(folder / "my-dog.safetensors", methods.DETEX, "<my-dog>", "dog", ("pose1", "pose2"))
    put(folder / "pets" / "rex.safetensors", methods.CROSS_INIT, "<rex>", "dog")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def put(path, method, placeholder, class_word, attributes=()):
    words = {name: torch.ones(1, 64) for name in ("", *attributes)}
    save_concept(Concept(method, "sd1", 64, placeholder, class_word=class_word, words=words), path)
    shades = torch.linspace(40, 220, 4).byte().view(-1, 1, 1, 1)
    write_pictures(path, None, shades.expand(4, 64, 64, 3).contiguous())


def open_sidebar(page):
    page.find(TAB_BUTTON).click()
    page.find(".personalize-shelf").wait_for()


def cards(page):
    return page.find(".personalize-card")


def add_prompt(page):
    """An empty CLIP Text Encode; returns its text area."""
    page.tab.evaluate(
        """() => {
            const node = LiteGraph.createNode("CLIPTextEncode")
            node.pos = [500, 60]
            app.canvas.graph.add(node)
        }"""
    )
    field = page.find("textarea").first
    field.wait_for()
    return field


def types(page):
    return set(page.tab.evaluate("app.graph.nodes.map(node => node.type)"))


def prompt_value(page):
    return widget_value(page, "CLIPTextEncode", "text")


def widget_value(page, node_type, name):
    """By type, not by place: a node that is selected moves to the end of the graph's list."""
    return page.tab.evaluate(
        """([type, name]) => {
            const node = app.graph.nodes.find(n => n.type === type)
            return node.widgets.find(w => w.name === name).value
        }""",
        [node_type, name],
    )


def know_the_shelf(page):
    """The page asks for the saved concepts at its start; here it has them."""
    module = "/extensions/personalize/concepts/shelf.js"
    page.tab.evaluate("async module => (await import(module)).refreshShelf()", module)


def suggestions(page):
    page.find(".personalize-completion code").first.wait_for()
    return page.find(".personalize-completion code").all_inner_texts()


def test_cards_prompts_and_nodes(page):
    field = add_prompt(page)
    open_sidebar(page)
    page.find(".personalize-choices select").first.select_option("name")
    cards(page).nth(1).wait_for()
    first, second = cards(page).all()
    told = first.inner_text()
    assert "my-dog" in told and "DETEX · for Stable Diffusion 1.x" in told
    assert "<rex> dog" in second.inner_text()
    page.tab.wait_for_function(
        "[...document.querySelectorAll('.personalize-card img')].every(i => i.naturalWidth > 0)"
    )
    page.find(".personalize-shelf input").fill("nothing")
    assert page.find(".personalize-state").inner_text() == "No concept fits “nothing”."
    page.find(".personalize-shelf input").fill("cross rex")
    assert cards(page).count() == 1

    # a click writes into the prompt that was used last, and undo takes it back
    field.fill("a photo of, on the beach")
    field.evaluate("field => field.setSelectionRange(10, 10)")
    cards(page).locator(".personalize-main").click()
    assert field.input_value() == prompt_value(page) == "a photo of <rex> dog, on the beach"
    page.tab.keyboard.press("Control+z")
    assert field.input_value() == "a photo of, on the beach"

    # nothing is applied yet: names decide; then a card's button applies <rex>, which comes first
    page.find(".personalize-shelf input").fill("")
    field.fill("")
    page.tab.keyboard.type("a <")
    assert suggestions(page) == ["<my-dog>", "<rex> dog", "<my-dog:pose1>", "<my-dog:pose2>"]
    page.tab.keyboard.press("Escape")
    page.find(".personalize-completion").wait_for(state="detached")
    cards(page).nth(1).locator(".personalize-icon").first.click()
    assert types(page) == {"CLIPTextEncode", "PersonalizeLoadConcept", "PersonalizeApplyConcept"}
    reminders = page.find(".personalize-reminder")
    for number in range(2):  # on Load Concept and on Apply Concept, once they are drawn
        reminders.nth(number).get_by_text("Cross Initialization · Stable Diffusion 1.x").wait_for()
        assert "Write <rex> dog in the prompt" in reminders.nth(number).inner_text()
    field.fill("")
    page.tab.keyboard.type("a <")
    assert suggestions(page)[0] == "<my-dog>"  # this prompt has no CLIP: nothing is applied to it
    page.screenshot(f"completion-{page.renderer.value}")
    page.tab.keyboard.type("my-dog:")
    page.tab.keyboard.press("ArrowDown")
    page.tab.keyboard.press("Enter")
    assert field.input_value() == prompt_value(page) == "a <my-dog:pose2>"


def test_drag_rename_delete_and_a_hostile_name(page, folder):
    open_sidebar(page)
    page.find(".personalize-choices select").first.select_option("name")
    where = {"x": 700, "y": 600}
    cards(page).first.drag_to(page.find("#graph-canvas"), target_position=where, force=True)
    assert types(page) == {"PersonalizeLoadConcept", "PersonalizeApplyConcept"}

    cards(page).first.locator("button[title^='Rename']").click()
    page.find("[role=dialog] input").fill("good-dog")
    page.tab.keyboard.press("Enter")
    page.find(".personalize-card[data-name='good-dog.safetensors']").wait_for()
    assert (folder / "good-dog.webp").is_file() and not (folder / "my-dog.webp").exists()
    loaded = widget_value(page, "PersonalizeLoadConcept", "concept_name")
    assert loaded == "good-dog.safetensors"

    # a file that appears is listed after a refresh, whatever it is called
    put(folder / f"{HOSTILE}.safetensors", methods.TEXTUAL_INVERSION, "<x>", HOSTILE)
    page.find(".personalize-shelf header button").last.click()
    page.find(".personalize-card").nth(2).wait_for()
    hostile = cards(page).filter(has_text="onerror")
    assert HOSTILE in hostile.inner_text()
    hostile.locator("button[title^='Delete']").click()
    page.find("[role=dialog]").get_by_text("onerror").first.wait_for()
    page.screenshot(f"delete-{page.renderer.value}")
    page.find("[role=dialog]").get_by_role("button", name="Delete").click()
    hostile.wait_for(state="detached")
    assert (folder / ".trash" / f"{HOSTILE}.safetensors").is_file()
    assert page.tab.title() != "hacked" and page.find("img[src='x']").count() == 0
