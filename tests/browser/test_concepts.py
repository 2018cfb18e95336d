"""Saved concepts at hand: the sidebar, completion of placeholders, what to write on the nodes."""

import shutil

import pytest
import torch
from personalize.concepts.concept import Concept, Method
from personalize.concepts.files import save_concept
from personalize.host.card_pictures import write_pictures

pytestmark = [pytest.mark.server, pytest.mark.browser]

HOSTILE = "<img src=x onerror=document.title='hacked'>"


@pytest.fixture(autouse=True)
def folder(server):
    """The server's concepts folder with two concepts, as it was found afterwards."""
    folder = server.base_directory / "output" / "concepts"
    shutil.rmtree(folder, ignore_errors=True)
    put(folder / "my-dog.safetensors", Method.DETEX, "<my-dog>", "dog", ("pose1", "pose2"))
    put(folder / "pets" / "rex.safetensors", Method.CROSS_INIT, "<rex>", "dog")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def put(path, method, placeholder, class_word, attributes=()):
    words = {name: torch.ones(1, 64) for name in ("", *attributes)}
    save_concept(Concept(method, "sd1", 64, placeholder, class_word=class_word, words=words), path)
    shades = torch.linspace(40, 220, 4).byte().view(-1, 1, 1, 1)
    write_pictures(path, None, shades.expand(4, 64, 64, 3).contiguous())


@pytest.fixture
def page(page):
    """The frontend, with the list of concepts as it is now."""
    page.reload()
    page.clear()
    return page


def open_sidebar(page):
    page.find(".personalize-concepts-tab-button").click()
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


def node_types(page):
    return page.tab.evaluate("app.graph.nodes.map(node => node.type).sort()")


def test_the_sidebar_lists_and_searches(page):
    open_sidebar(page)
    assert cards(page).count() == 2
    first = cards(page).first
    assert "my-dog" in first.inner_text() and "DETEX · Stable Diffusion 1.x" in first.inner_text()
    assert "<rex> dog" in cards(page).nth(1).inner_text()
    page.tab.wait_for_function(
        "[...document.querySelectorAll('.personalize-card img')].every(i => i.naturalWidth > 0)"
    )
    page.find(".personalize-shelf input").fill("cross rex")
    assert cards(page).count() == 1 and "rex" in cards(page).first.inner_text()
    page.find(".personalize-shelf input").fill("nothing")
    assert page.find(".personalize-state").inner_text() == "No concept fits “nothing”."


def test_a_click_writes_into_the_prompt_used_last(page):
    field = add_prompt(page)
    field.fill("a photo of, on the beach")
    field.evaluate("field => field.setSelectionRange(10, 10)")
    open_sidebar(page)
    cards(page).nth(1).locator(".personalize-main").click()
    assert field.input_value() == "a photo of <rex> dog, on the beach"
    value = "app.graph.nodes[0].widgets.find(w => w.name === 'text').value"
    assert page.tab.evaluate(value) == "a photo of <rex> dog, on the beach"
    page.tab.keyboard.press("Control+z")
    assert field.input_value() == "a photo of, on the beach"
